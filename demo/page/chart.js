// The chart of a connection: each event is a line from when it was published to when it
// arrived. While all is well the lines stand upright; what was published while there was
// no connection fans in to the moment when it was there again. And the small chart of a
// number as it was second by second.

const top = 42, wire = 112, height = 136;

const make = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) element.setAttribute(k, v);
  return element;
};

export class Chart {
  #svg;
  #span;
  #names;
  #moving = make("g", {}); // drawn in ms since #zero, moved as time goes by
  #wires = make("g", {});
  #zero = Date.now();
  #width = 0;
  #events = []; // {count, published, arrived, drawn}
  #states = []; // {state, from}
  #frame = 0;

  /** Options: span, the ms shown; names, how many events from one that is numbered to the next, 0: none is. */
  constructor(svg, { span = 20_000, names = 5, above = "published by the server", below = "received by this page" } = {}) {
    this.#svg = svg;
    this.#span = span;
    this.#names = names;
    svg.append(make("line", { class: "rule", x1: 0, x2: "100%", y1: top, y2: top }));
    const texts = [[11, above], [height - 4, below]].map(([y, words]) => {
      const text = make("text", { class: "label", x: 0, y });
      text.textContent = words;
      return text;
    });
    this.#moving.append(this.#wires);
    svg.append(this.#moving, ...texts);
    new ResizeObserver(() => {
      this.#width = svg.clientWidth;
      for (const event of this.#events) this.#show(event);
      this.#draw();
    }).observe(svg);
  }

  /** Shows an event, with the times as this page's clock has them. */
  add(count, published, arrived) {
    const event = { count, published, arrived, drawn: [] };
    this.#events.push(event);
    this.#show(event);
    this.#draw();
    this.#move();
  }

  /** Shows the wire from now on: of class "wire-" and the state. */
  state(state) {
    this.#states.push({ state, from: Date.now() });
    this.#draw();
    this.#move();
  }

  /** Moves what is drawn until nothing of it is in sight. */
  #move() {
    if (this.#frame || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const step = () => {
      this.#place();
      this.#frame = this.#idle() ? 0 : requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  #idle() {
    const last = this.#states.at(-1);
    return last?.state === 2 && Date.now() - last.from > this.#span;
  }

  #x(t) {
    return ((t - this.#zero) / this.#span) * this.#width;
  }

  #place() {
    const x = this.#width - this.#x(Date.now());
    this.#moving.setAttribute("transform", `translate(${x.toFixed(2)})`);
    // The newest piece of the wire grows.
    this.#wires.lastChild?.setAttribute("x2", this.#x(Date.now()).toFixed(1));
  }

  /** Draws the wire, and drops what is out of sight. */
  #draw() {
    const now = Date.now();
    const oldest = now - this.#span - 2000;
    while (this.#events.length && this.#events[0].arrived < oldest) {
      for (const element of this.#events.shift().drawn) element.remove();
    }
    while (this.#states.length > 1 && this.#states[1].from < oldest) this.#states.shift();
    this.#wires.replaceChildren(...this.#states.map(({ state, from }, i) => {
      const until = this.#states[i + 1]?.from ?? now;
      return make("line", {
        class: "wire-" + state, y1: wire, y2: wire,
        x1: this.#x(Math.max(from, oldest)).toFixed(1), x2: this.#x(until).toFixed(1),
      });
    }));
    this.#place();
  }

  #show(event) {
    const { count, published, arrived } = event;
    for (const element of event.drawn) element.remove();
    const late = arrived - published > 250;
    const x1 = this.#x(published).toFixed(1), x2 = this.#x(arrived).toFixed(1);
    event.drawn = [
      make("line", { class: late ? "event late" : "event", x1, x2, y1: top, y2: wire }),
      make("circle", { class: late ? "late" : "", cx: x2, cy: wire, r: 2.5 }),
    ];
    if (this.#names && count % this.#names === 0) {
      const text = make("text", { class: "number", x: x1, y: top - 8 });
      text.textContent = count;
      event.drawn.push(text);
    }
    this.#moving.append(...event.drawn);
  }
}

const seconds = 30; // shown

/** A small chart: a bar for each second. */
export class Bars {
  values = [];
  #path = make("path", {});

  constructor(svg) {
    svg.setAttribute("viewBox", `0 0 ${seconds} 1`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(this.#path);
  }

  add(value) {
    this.values.push(value);
    while (this.values.length > seconds) this.values.shift();
  }

  /** Draws the bars, with the highest that can be. */
  draw(most) {
    const from = seconds - this.values.length;
    this.#path.setAttribute("d", this.values.map((v, i) => {
      const y = Math.max(0, 1 - v / (most || 1));
      return `M${from + i + 0.1} 1V${y.toFixed(3)}h.8V1z`;
    }).join(""));
  }
}

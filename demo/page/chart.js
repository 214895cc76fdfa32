// The chart of the connection: each event is a line from when it was published to when
// it arrived. While all is well the lines stand upright; what was published while there
// was no connection fans in to the moment when it was there again.

const span = 20_000; // ms shown
const top = 42, wire = 112, height = 136;

const make = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) element.setAttribute(k, v);
  return element;
};

export class Chart {
  #svg;
  #moving = make("g", {}); // drawn in ms since #zero, moved as time goes by
  #zero = Date.now();
  #width = 0;
  #skew = Infinity; // what the server's clock is behind ours
  #events = [];
  #states = []; // {state, from}
  #frame = 0;

  constructor(svg) {
    this.#svg = svg;
    svg.append(make("line", { class: "rule", x1: 0, x2: "100%", y1: top, y2: top }));
    const above = make("text", { class: "label", x: 0, y: 11 });
    above.textContent = "published by the server";
    const below = make("text", { class: "label", x: 0, y: height - 4 });
    below.textContent = "received by this page";
    svg.append(this.#moving, above, below);
    new ResizeObserver(() => {
      this.#width = svg.clientWidth;
      this.#draw();
    }).observe(svg);
  }

  add(count, published) {
    const now = Date.now();
    this.#skew = Math.min(this.#skew, now - published);
    this.#events.push({ count, published: published + this.#skew, arrived: now });
    this.#draw();
    this.#move();
  }

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
    return last?.state === 2 && Date.now() - last.from > span;
  }

  #x(t) {
    return ((t - this.#zero) / span) * this.#width;
  }

  #place() {
    const x = this.#width - this.#x(Date.now());
    this.#moving.setAttribute("transform", `translate(${x.toFixed(2)})`);
    this.#wire();
  }

  /** The newest piece of the wire grows. */
  #wire() {
    this.#moving.querySelector(".now")?.setAttribute("x2", this.#x(Date.now()).toFixed(1));
  }

  #draw() {
    const now = Date.now();
    const oldest = now - span - 2000;
    this.#events = this.#events.filter((e) => e.arrived > oldest);
    while (this.#states.length > 1 && this.#states[1].from < oldest) this.#states.shift();

    const pieces = this.#states.map(({ state, from }, i) => {
      const next = this.#states[i + 1];
      const x2 = this.#x(next ? next.from : now).toFixed(1);
      return make("line", { class: "wire-" + state + (next ? "" : " now"), x1: this.#x(Math.max(from, oldest)).toFixed(1), x2, y1: wire, y2: wire });
    });
    const lines = this.#events.flatMap(({ count, published, arrived }) => {
      const late = arrived - published > 250;
      const x1 = this.#x(published).toFixed(1), x2 = this.#x(arrived).toFixed(1);
      const made = [
        make("line", { class: late ? "event late" : "event", x1, x2, y1: top, y2: wire }),
        make("circle", { class: late ? "late" : "", cx: x2, cy: wire, r: 2.5 }),
      ];
      if (count % 5 === 0) {
        const text = make("text", { class: "number", x: x1, y: top - 8 });
        text.textContent = count;
        made.push(text);
      }
      return made;
    });
    this.#moving.replaceChildren(...pieces, ...lines);
    this.#place();
  }
}

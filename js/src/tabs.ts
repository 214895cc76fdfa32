import type { Feed, Note, Numbered, Sink } from "./options.js";
import type { Link } from "./link.js";
import { type At, Counter, Place } from "./place.js";

/** What members of a group tell each other. */
type Message =
  | { kind: "join" } // a new one: where are we?
  | { kind: "now"; at: At; open?: Note | undefined } // the leader's answer, and how it begins
  | { kind: "note"; all: Numbered }
  | { kind: "ask" } // the leader: where are you all?
  | Here // the answer
  | { kind: "behind"; at: At } // something is missing after that
  | { kind: "sync" }
  | { kind: "seen"; hidden: boolean }
  | { kind: "beat" };

interface Here {
  kind: "here";
  at: At | undefined;
  hidden: boolean;
}

const patience = 500; // ms, for answers; who is later is "behind" then
const beat = 15_000;
const deposed = 10 * beat; // timers of hidden pages run once a minute

/**
 * A group of tabs with one connection. The one that has the lock of the name leads: it has the
 * connection and posts what comes. When it goes, the browser hands the lock on, and the new
 * leader goes on after the last event that every tab has. Events are numbered, in all tabs
 * alike, so each drops those that it has had: ids alone would not do, publishers may repeat
 * them. A leader that has hung for long is deposed.
 */
export class Tabs implements Feed {
  readonly #name: string;
  readonly #sink: Sink;
  readonly #link: Link;
  readonly #channel: BroadcastChannel;
  readonly #place = new Place();
  readonly #counter = new Counter();
  #request!: AbortController; // for the lock
  #release: (() => void) | undefined; // set while leading
  #leading = false; // the connection is begun
  #opened: Note | undefined;
  #hidden = false;
  #closed = false;
  #behind = false;
  #looked = {}; // another one for each call of look
  #syncing = false; // asked for, and not come yet
  #answer: ((m: Here) => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  readonly #fails: () => void;

  /**
   * @param link makes the connection, which is not begun yet
   * @param fails is called where the page may have no locks
   */
  constructor(name: string, link: (sink: Sink) => Link, sink: Sink, fails: () => void) {
    this.#name = name;
    this.#fails = fails;
    this.#sink = sink;
    this.#link = link((note) => this.#publish(note));
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#hear(data);
    this.#post({ kind: "join" });
    this.#follow();
  }

  close(): void {
    this.#closed = true;
    this.#leading = false;
    clearTimeout(this.#timer);
    this.#link.close();
    this.#channel.close();
    this.#request.abort();
    this.#release?.();
  }

  hide(hidden: boolean): void {
    this.#hidden = hidden;
    if (this.#leading) void this.#look();
    else this.#post({ kind: "seen", hidden });
  }

  sync(): void {
    this.#syncing = true;
    if (this.#leading) this.#link.sync();
    else this.#post({ kind: "sync" });
  }

  #follow(): void {
    this.#wait();
    this.#request = new AbortController();
    this.#lock({ signal: this.#request.signal });
    this.#sink({ kind: "role", role: "follower" });
  }

  #lock(options: LockOptions): void {
    navigator.locks.request(this.#name, options, () => this.#lead()).catch(({ name }: DOMException) => {
      if (this.#closed) return;
      if (!this.#release) return void (name === "AbortError" || this.#fails());
      this.#release = undefined; // it was stolen
      this.#leading = false;
      clearTimeout(this.#timer);
      this.#link.close();
      this.#follow();
    });
  }

  /** Waits for the leader's next word. */
  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#request.abort();
      this.#lock({ steal: true });
    }, deposed);
  }

  async #lead(): Promise<void> {
    if (this.#closed) return;
    const held = new Promise<void>((resolve) => { this.#release = resolve; });
    let from = this.#place.at;
    for (const { at } of await this.#ask()) {
      if (at && (!from || (at.era === from.era && at.n < from.n))) from = at;
    }
    if (this.#closed || !this.#release) return held;
    this.#leading = true;
    clearTimeout(this.#timer);
    from ??= this.#counter.at;
    this.#place.at ??= from;
    this.#begin(from);
    this.#timer = setInterval(() => this.#post({ kind: "beat" }), beat);
    void this.#look();
    this.#sink({ kind: "role", role: "leader" });
    return held;
  }

  #begin(at: At): void {
    this.#counter.at = { ...at };
    this.#post({ kind: "now", at });
    if (this.#syncing) this.#link.sync();
    this.#link.start(at.id);
  }

  /** Collects where the others are: as many answers as there are tabs that want the lock. */
  async #ask(): Promise<Here[]> {
    const { pending } = await navigator.locks.query();
    const others = pending!.filter(({ name }) => name === this.#name).length;
    const answers: Here[] = [];
    if (!others || this.#closed) return answers;
    await new Promise<void>((resolve) => {
      const late = setTimeout(() => { // one that is silent may be seen
        answers.push({} as Here);
        resolve();
      }, patience);
      this.#answer = (m) => {
        if (answers.push(m) < others) return;
        clearTimeout(late);
        resolve();
      };
      this.#post({ kind: "ask" });
    });
    return answers;
  }

  /** Has the connection rest while nobody looks. What was answered before another call may not be so any more. */
  async #look(hidden = true): Promise<void> {
    const look = this.#looked = {};
    const rests = hidden && this.#hidden && (await this.#ask()).every(({ hidden }) => hidden);
    if (this.#leading && this.#looked === look) this.#link.hide(rests);
  }

  #post(m: Message): void {
    if (!this.#closed) this.#channel.postMessage(m);
  }

  /** Passes on what the connection brings. */
  #publish(note: Note): void {
    if (!("id" in note)) this.#opened = note.kind === "open" ? note : undefined;
    const all = this.#counter.number(note);
    this.#post({ kind: "note", all });
    this.#take(all);
  }

  #hear(m: Message): void {
    switch (m.kind) {
      case "join":
        if (this.#leading) this.#post({ kind: "now", at: this.#counter.at, open: this.#opened });
        return;
      case "ask":
        return this.#post({ kind: "here", at: this.#place.at, hidden: this.#hidden });
      case "here":
        return this.#answer?.(m);
      case "seen":
        if (this.#leading) void this.#look(m.hidden);
        return;
      case "behind":
        if (this.#leading && m.at.era === this.#counter.at.era && m.at.n < this.#counter.at.n) this.#begin(m.at);
        return;
      case "sync":
        if (this.#leading) this.#link.sync();
        return;
    }
    if (this.#leading) return; // what one that was deposed still says
    this.#wait();
    if (m.kind === "now") {
      this.#take({ ...m.at, note: { kind: "id", id: m.at.id } });
      if (m.open) this.#sink(m.open);
      if (this.#syncing) this.#post({ kind: "sync" });
    } else if (m.kind === "note") {
      this.#take(m.all);
    }
  }

  #take(all: Numbered): void {
    switch (this.#place.take(all)) {
      case "lost":
        this.#sink({ kind: "lost" });
      // falls through
      case "new":
        this.#behind = false;
        if (all.note.kind === "id" && all.note.exact) this.#syncing = false;
        return this.#sink(all.note);
      case "missing":
        if (!this.#behind) this.#post({ kind: "behind", at: this.#place.at! });
        this.#behind = true;
    }
  }
}

import { Link } from "./link.js";
import type { LinkOptions, Note, Sink } from "./options.js";

/**
 * Brings a source to where the connection is that it shares: it polls from its own beginning to
 * the first place of the connection that is known exactly, and what the connection brings after
 * that is held back meanwhile.
 */
export class Joiner {
  readonly #make: (sink: Sink) => Link;
  readonly #sink: Sink;
  readonly #done: () => void;
  #held: Note[] | undefined;
  #link: Link | undefined;
  #id: string;
  #came = 0; // events of the poll under way

  constructor(o: LinkOptions, token: (() => string | Promise<string>) | undefined, id: string, sink: Sink, done: () => void) {
    this.#make = (sink) => new Link({ ...o, pollInterval: 1, climbAfter: Infinity }, token, sink, this.#id, "polling");
    this.#id = id;
    this.#sink = sink;
    this.#done = done;
  }

  close(): void { this.#link?.close(); }

  /** Takes a note of the connection. */
  take(note: Note): void {
    if (note.kind === "lost") {
      this.close(); // the next exact place is another one
      this.#held = undefined;
    } else if (this.#held && ("id" in note || note.kind === "end")) {
      this.#held.push(note);
    } else if (note.kind === "id" && note.exact) {
      this.#held = [note];
      this.#link = this.#make((own) => this.#own(own, note.id));
      this.#link.start();
    } else if (!("id" in note)) {
      this.#sink(note);
    }
  }

  /** Takes a note of the polls. */
  #own(note: Note, until: string): void {
    switch (note.kind) {
      case "event":
        this.#came++;
        if (after(note.position ?? note.id, until)) return;
        this.#id = note.id;
        return this.#sink(note);
      case "id":
        this.#id = note.id;
        if (this.#came && after(until, note.id)) {
          this.#came = 0;
          return this.#sink(note);
        }
      // falls through
      case "end":
        this.#link!.close();
        if (note.kind === "end" && note.problem) return this.#sink(note);
        this.#done();
        return this.#held!.forEach(this.#sink);
      case "open":
      case "error":
        return this.#sink(note);
    }
  }
}

/** Tells whether a position is behind another one, which is not older than its epoch. */
function after(a: string, b: string): boolean {
  const seq = a.lastIndexOf("-") + 1;
  return a.slice(0, seq) === b.slice(0, seq) && +a.slice(seq) > +b.slice(seq);
}

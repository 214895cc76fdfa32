import type { Note, Numbered } from "./options.js";

const jump = 2 ** 32; // more events than any tab can be ahead

/** A place in what a connection has brought. */
export interface At {
  era: string;
  n: number;
  id: string;
}

/** Numbers what a connection brings. */
export class Counter {
  at: At = { era: Math.random().toString(36), n: 0, id: "" };

  number(note: Note): Numbered {
    const { at } = this;
    if ("id" in note) at.id = note.id;
    // Behind a gap other events may follow than those that some tabs have had.
    const gap = note.kind === "event" && note.type === "tidewire.gap";
    if (note.kind === "event") at.n += gap ? jump : 1;
    return { era: at.era, n: at.n, note, jump: gap };
  }
}

/** How far one of the listeners has come. */
export class Place {
  at: At | undefined; // not known yet

  /** Tells whether a note is new, was there already, comes after others that are missing, or does not follow at all. */
  take({ era, n, note, jump }: Numbered): "new" | "old" | "missing" | "lost" {
    const counts = note.kind === "event" ? 1 : 0;
    const { at } = this;
    if (!("id" in note)) return "new"; // of the connection, not of the stream
    if (at && era === at.era) {
      if (n < at.n + counts) return "old";
      if (!jump && n > at.n + counts) return "missing";
    }
    this.at = { era, n, id: note.id };
    return at && era !== at.era ? "lost" : "new";
  }
}

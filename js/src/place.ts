import type { Note, Numbered } from "./options.js";

const jump = 2 ** 32; // more events than any tab can be ahead

/** An error is told to one connection, and no part of what all of them bring. */
const counts = (note: Note): number => note.kind === "event" && note.type !== "tidewire.error" ? 1 : 0;

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
    at.n += gap ? jump : counts(note);
    return { ...at, note, jump: gap };
  }
}

/** How far one of the listeners has come. */
export class Place {
  at: At | undefined; // not known yet

  /** Tells whether a note is new, was there already, comes after others that are missing, or does not follow at all. */
  take({ era, n, note, jump }: Numbered): "new" | "old" | "missing" | "lost" {
    const next = counts(note);
    const { at } = this;
    if (!("id" in note)) return "new"; // of the connection, not of the stream
    if (at && era === at.era) {
      if (n < at.n + next) return "old";
      if (!jump && n > at.n + next) return "missing";
    }
    this.at = { era, n, id: note.id };
    return at && era !== at.era ? "lost" : "new";
  }
}

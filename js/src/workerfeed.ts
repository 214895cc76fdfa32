import type { Feed, LinkOptions, Note, Numbered, Sink } from "./options.js";
import { type At, Place } from "./place.js";

/** What a page tells the worker. */
export type ToWorker =
  | { t: "join"; key: string; options: LinkOptions; token: boolean; hidden: boolean }
  | { t: "seen"; hidden: boolean }
  | { t: "token"; q: number; token?: string }
  | { t: "sync" }
  | { t: "bye" };

/** What the worker tells a page. */
export type FromWorker =
  | { t: "now"; at: At; open?: Note }
  | { t: "note"; all: Numbered }
  | { t: "token"; q: number };

/** A connection that a SharedWorker has for all tabs. */
export class WorkerFeed implements Feed {
  readonly #port: MessagePort;
  readonly #place = new Place();
  readonly #leave = (): void => this.#post({ t: "bye" });
  readonly #back: (e: PageTransitionEvent) => void;

  /** @param fails is called where there is no such worker, and nothing was passed on. */
  constructor(worker: SharedWorker, key: string, options: LinkOptions, token: (() => string | Promise<string>) | undefined, sink: Sink, fails: () => void) {
    this.#port = worker.port;
    let hidden = false;
    const join = (): void => this.#post({ t: "join", key, options, token: !!token, hidden });
    this.hide = (now) => {
      hidden = now;
      this.#post({ t: "seen", hidden });
    };
    worker.onerror = () => {
      if (!this.#place.at) fails();
    };
    this.#port.onmessage = async ({ data: m }: MessageEvent<FromWorker>) => {
      switch (m.t) {
        case "now":
          sink({ kind: "role", role: "worker" });
          // A page that was away has missed what came meanwhile.
          if (this.#place.at && (this.#place.at.era !== m.at.era || this.#place.at.n !== m.at.n)) sink({ kind: "lost" });
          this.#place.at = m.at;
          if (m.open) sink(m.open);
          return;
        case "note":
          if (this.#place.take(m.all) === "new") sink(m.all.note);
          return;
        case "token":
          try {
            this.#post({ t: "token", q: m.q, token: await token!() });
          } catch {
            this.#post({ t: "token", q: m.q });
          }
      }
    };
    this.sync = () => this.#post({ t: "sync" });
    join();
    // A page that is kept for the way back is told nothing meanwhile.
    this.#back = ({ persisted }) => { if (persisted) join(); };
    globalThis.addEventListener?.("pagehide", this.#leave);
    globalThis.addEventListener?.("pageshow", this.#back);
  }

  hide: (hidden: boolean) => void;
  sync: () => void;

  close(): void {
    this.#leave();
    this.#port.close();
    globalThis.removeEventListener?.("pagehide", this.#leave);
    globalThis.removeEventListener?.("pageshow", this.#back);
  }

  #post(m: ToWorker): void { this.#port.postMessage(m); }
}

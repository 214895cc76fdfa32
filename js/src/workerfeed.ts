import type { Feed, LinkOptions, Note, Numbered, Sink } from "./options.js";
import { type At, Place } from "./place.js";

/** What a page tells the worker. */
export type ToWorker =
  | { kind: "join"; key: string; options: LinkOptions; token: boolean; hidden: boolean }
  | { kind: "seen"; hidden: boolean }
  | { kind: "token"; q: number; token: string | undefined }
  | { kind: "sync" }
  | { kind: "bye" };

/** What the worker tells a page. */
export type FromWorker =
  | { kind: "now"; at: At; open: Note | undefined }
  | { kind: "note"; all: Numbered }
  | { kind: "token"; q: number };

const patience = 5_000; // ms: a source that joins while the worker is found missing may not be told

/**
 * Returns a connection that a SharedWorker has for all tabs.
 *
 * @param fails is called where there is no such worker, and nothing was passed on
 */
export function workerFeed(worker: SharedWorker, key: string, options: LinkOptions, token: (() => string | Promise<string>) | undefined, sink: Sink, fails: () => void): Feed {
  const { port } = worker;
  const place = new Place();
  const post = (m: ToWorker): void => port.postMessage(m);
  let hidden = false;
  const join = (): void => post({ kind: "join", key, options, token: !!token, hidden });
  // A page that is kept for the way back is told nothing meanwhile.
  const leave = (): void => post({ kind: "bye" });
  const back = ({ persisted }: PageTransitionEvent): void => { if (persisted) join(); };
  const missing = worker.onerror = (): void => { if (!place.at) fails(); };
  setTimeout(missing, patience);
  port.onmessage = async ({ data: m }: MessageEvent<FromWorker>) => {
    switch (m.kind) {
      case "now":
        sink({ kind: "role", role: "worker" });
        if (place.at && (place.at.era !== m.at.era || place.at.n !== m.at.n)) sink({ kind: "lost" });
        place.at = m.at;
        if (m.open) sink(m.open);
        return;
      case "note":
        if (place.take(m.all) === "new") sink(m.all.note);
        return;
      case "token":
        post({ kind: "token", q: m.q, token: await Promise.resolve().then(token).catch(() => undefined) });
    }
  };
  join();
  addEventListener("pagehide", leave);
  addEventListener("pageshow", back);
  return {
    close() {
      fails = () => {};
      leave();
      port.close();
      removeEventListener("pagehide", leave);
      removeEventListener("pageshow", back);
    },
    hide(now) {
      hidden = now;
      post({ kind: "seen", hidden });
    },
    sync: () => post({ kind: "sync" }),
  };
}

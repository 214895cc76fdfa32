import { Joiner } from "./joiner.js";
import { Link } from "./link.js";
import type { Feed, LinkOptions, Note, Options, Sink } from "./options.js";
import { Tabs } from "./tabs.js";
import { workerFeed } from "./workerfeed.js";

/** What a source on this page has of the page's feed. */
interface Member {
  sink: Sink;
  o: LinkOptions;
  token: Options["getToken"];
  joiner?: Joiner | undefined;
}

const pages = new Map<string, Page>();

/**
 * Has a source share the page's feed of the same connection, which shares that of other pages.
 * The connection begins now: a source that does not catches up.
 *
 * @param id where the source begins, `""` for what its URL says
 */
export function share(o: LinkOptions, options: Options, sink: Sink, id: string): Pick<Feed, "close" | "hide"> {
  const url = new URL(o.url);
  let begins = !!id;
  for (const name of ["since", "last", "last_event_id"]) {
    begins ||= url.searchParams.has(name);
    url.searchParams.delete(name);
  }
  const live = { ...o, url: url.href };
  const key = JSON.stringify([live, options.share, !!options.pauseWhenHidden, !!options.getToken]);
  let page = pages.get(key);
  if (!page) pages.set(key, page = new Page(key, live, options));
  return page.add({ sink, o, token: options.getToken }, begins, id);
}

/** The sources of one connection on this page. */
class Page {
  readonly #key: string;
  readonly #members = new Set<Member>();
  #feed: Feed;
  #role: Note | undefined;
  #opened: Note | undefined;
  #id = "";

  constructor(key: string, live: LinkOptions, { getToken, workerUrl }: Options) {
    this.#key = key;
    const sink: Sink = (note) => this.#take(note);
    // Of a source that is still there, the first one to begin with; all of a key have one, or none.
    const token = getToken && (() => ([...this.#members][0]?.token ?? getToken)());
    const link = (sink: Sink): Link => new Link(live, token, sink);
    const alone = (): Feed => {
      sink({ kind: "role", role: "alone" });
      return link(sink).start();
    };
    const here = (): Feed => globalThis.navigator?.locks ? new Tabs("tidewire:" + key, link, sink, () => instead(alone)) : alone();
    const instead = (make: () => Feed): void => {
      this.#feed.close();
      this.#feed = make();
      this.#feed.sync();
    };
    let worker: SharedWorker | undefined;
    try {
      if (workerUrl) worker = new SharedWorker(workerUrl, "tidewire");
    } catch {} // where there are none, or the page may have none
    this.#feed = worker ? workerFeed(worker, key, live, token, sink, () => instead(here)) : here();
  }

  add(m: Member, begins: boolean, id: string): Pick<Feed, "close" | "hide"> {
    this.#members.add(m);
    queueMicrotask(() => {
      for (const note of [this.#role, this.#opened, !begins && this.#id && { kind: "id", id: this.#id } as const]) {
        if (note) m.sink(note);
      }
    });
    if (begins) this.#join(m, id);
    return {
      close: () => {
        m.joiner?.close();
        if (!this.#members.delete(m) || this.#members.size) return;
        this.#forget();
        this.#feed.close();
      },
      hide: (hidden) => this.#feed.hide(hidden),
    };
  }

  #forget(): void {
    if (pages.get(this.#key) === this) pages.delete(this.#key);
  }

  #join(m: Member, id: string): void {
    m.joiner?.close();
    const sink: Sink = (note) => {
      // It is as open as the connection, however it comes there.
      const told = note.kind === "open" ? this.#opened : note;
      if (told) m.sink(told);
    };
    m.joiner = new Joiner(m.o, m.token, id, sink, () => { m.joiner = undefined; });
    this.#feed.sync();
  }

  #take(note: Note): void {
    if (note.kind === "role") {
      this.#role = note;
    } else if ("id" in note) {
      this.#id = note.id;
    } else if (note.kind !== "lost") {
      this.#opened = note.kind === "open" ? note : undefined;
    } else {
      for (const m of this.#members) m.joiner ? m.joiner.take(note) : this.#join(m, this.#id);
      return this.#feed.sync();
    }
    if (note.kind === "end") this.#forget();
    for (const m of [...this.#members]) m.joiner ? m.joiner.take(note) : m.sink(note);
  }
}

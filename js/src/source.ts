import { Link } from "./link.js";
import { type Feed, type Gap, type Note, type Options, type Problem, type State, linkOptions } from "./options.js";
import { share } from "./page.js";

/** Types of the events that a source has of its own. */
interface OwnEvents {
  open: Event;
  error: SourceErrorEvent;
  message: MessageEvent<string>;
}

/** The `error` event, as in EventSource, and why. */
export interface SourceErrorEvent extends Event {
  /** What the server says; undefined where there was no answer. */
  readonly problem?: Problem;
}

type Listener<E extends Event> = ((this: TidewireSource, event: E) => unknown) | { handleEvent(event: E): unknown };
type Handler<E extends Event> = ((this: TidewireSource, event: E) => unknown) | null;
type AnyHandler = Handler<any>;

/** What stands in for an EventSource: all that one does, and the {@link Options}. */
export class TidewireSource extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSED = 2;
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSED = 2;

  /** The URL, absolute. */
  readonly url: string;
  readonly withCredentials: boolean;

  #state: State = { readyState: 0, way: "streaming", role: "alone", paused: false };
  #id: string;
  readonly #options: Options;
  readonly #feed: Pick<Feed, "close" | "hide">;
  readonly #handlers: Record<string, AnyHandler> = {};
  readonly #seen = (): void => this.#feed.hide(document.hidden);

  /**
   * Connects at once.
   *
   * @param url relative to the page, absolute where there is none
   * @throws {DOMException} SyntaxError where the URL cannot be parsed
   * @throws {TypeError} where headers cannot be sent
   */
  constructor(url: string | URL, options: Options = {}) {
    super();
    try {
      this.url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
    } catch {
      throw new DOMException(`parse URL ${url}: outside of pages it must be absolute`, "SyntaxError");
    }
    const o = linkOptions(this.url, options);
    new Headers(o.headers); // throws where they cannot be sent
    this.withCredentials = o.withCredentials;
    this.#options = options;
    this.#id = options.lastEventId ?? "";
    const sink = (note: Note): void => this.#take(note);
    this.#feed = options.share ? share(o, options, sink, this.#id) : new Link(o, options.getToken, sink, this.#id).start();
    if (options.pauseWhenHidden && globalThis.document) {
      document.addEventListener("visibilitychange", this.#seen);
      this.#seen(); // others may rest that think all are hidden
    }
  }

  /** 0 connecting, 1 open, 2 closed. */
  get readyState(): number { return this.#state.readyState; }

  /** The id to go on from, in a later source's options or after `last_event_id=`; `""` as long as there is none. */
  get lastEventId(): string { return this.#id; }

  /** How the source stands: a copy. */
  get state(): State { return { ...this.#state }; }

  get onopen(): Handler<Event> { return this.#handler("open"); }
  set onopen(call) { this.#setHandler("open", call); }
  get onmessage(): Handler<MessageEvent<string>> { return this.#handler("message"); }
  set onmessage(call) { this.#setHandler("message", call); }
  get onerror(): Handler<SourceErrorEvent> { return this.#handler("error"); }
  set onerror(call) { this.#setHandler("error", call); }

  /** Ends the source. No event comes any more, not even one that was received already. */
  close(): void {
    if (this.#closed) return; // and keep the problem
    this.#end();
    this.#change({ readyState: 2 });
  }

  /**
   * The events of the server, of all types but `tidewire.*`, from now on. They wait without bound
   * for who is slow. It ends when the source is closed, or throws where the server has refused, the
   * {@link Problem} as the cause; to leave the loop closes the source.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<MessageEvent<string>, void, undefined> {
    const queue: MessageEvent<string>[] = [];
    let wake = (): void => {};
    const put = (event?: MessageEvent<string>): void => {
      if (event) queue.push(event);
      wake();
    };
    this.#iterators.add(put);
    try {
      for (;;) {
        for (let event; (event = queue.shift()); ) yield event;
        if (this.#closed) break;
        await new Promise<void>((resolve) => { wake = resolve; });
      }
      const { problem } = this.#state;
      if (problem) throw new Error(`${this.url}: ${problem.detail ?? problem.status}`, { cause: problem });
    } finally {
      this.#iterators.delete(put);
      this.close();
    }
  }

  readonly #iterators = new Set<(event?: MessageEvent<string>) => void>();

  #handler(type: string): AnyHandler { return this.#handlers[type] ?? null; }

  /** A handler keeps its place among the listeners when it is replaced. */
  #setHandler(type: string, call: AnyHandler): void {
    if (!(type in this.#handlers)) super.addEventListener(type, (event) => this.#handlers[type]?.call(this, event));
    this.#handlers[type] = typeof call === "function" ? call : null;
  }

  get #closed(): boolean { return this.#state.readyState === 2; }

  #end(): void {
    this.#feed.close();
    globalThis.document?.removeEventListener("visibilitychange", this.#seen);
  }

  #change(change: Partial<State>): void {
    const before = JSON.stringify(this.#state);
    this.#state = { ...this.#state, paused: false, problem: undefined, retryIn: undefined, ...change };
    if (JSON.stringify(this.#state) === before) return;
    if (this.#closed) for (const put of this.#iterators) put();
    call(this.#options.onState, this.state);
  }

  #take(note: Note): void {
    if (this.#closed) return;
    switch (note.kind) {
      case "open": {
        const opens = this.readyState === 0;
        this.#change({ readyState: 1, way: note.way });
        if (opens && !this.#closed) this.dispatchEvent(new Event("open"));
        return;
      }
      case "event":
        this.#id = note.id;
        return this.#message(note.type, note.data, note.id, note.origin);
      case "id":
        this.#id = note.id;
        return;
      case "error":
      case "end": {
        const { problem, retryIn } = note;
        const ends = note.kind === "end";
        if (ends) this.#end();
        this.#change({ readyState: ends ? 2 : 0, problem, retryIn });
        if (ends || !this.#closed) this.dispatchEvent(Object.assign(new Event("error"), { problem }));
        return;
      }
      case "paused":
        return this.#change({ readyState: 0, paused: true });
      case "role":
        return this.#change({ role: note.role });
    }
  }

  #message(type: string, data: string, lastEventId: string, origin: string): void {
    if (type === "tidewire.gap") call((json) => this.#options.onGap?.(JSON.parse(json) as Gap), data);
    if (this.#closed) return;
    const event = new MessageEvent(type, { data, lastEventId, origin });
    if (!type.startsWith("tidewire.")) for (const put of this.#iterators) put(event);
    this.dispatchEvent(event);
  }
}

/** Calls an application's function. What it throws is reported, as with listeners, and stops nothing here. */
function call<T>(f: ((value: T) => void) | undefined, value: T): void {
  try {
    f?.(value);
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

// So that TypeScript knows the types of the events; EventTarget does the work.
export interface TidewireSource {
  addEventListener<K extends keyof OwnEvents>(type: K, listener: Listener<OwnEvents[K]> | null, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: Listener<MessageEvent<string>> | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof OwnEvents>(type: K, listener: Listener<OwnEvents[K]> | null, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: Listener<MessageEvent<string>> | null, options?: boolean | EventListenerOptions): void;
}

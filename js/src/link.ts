import type { Feed, LinkOptions, Note, Problem, Sink, Way } from "./options.js";
import { Parser } from "./parser.js";

/** How an attempt came to its end. */
type End =
  | { kind: "stop"; problem?: Problem } // nothing more will come
  | { kind: "polled"; more: boolean; held: boolean }
  | { kind: "late" } // no first byte: something on the way holds it back
  | { kind: "dead" } // no byte for long
  | { kind: "refused"; problem: Problem } // 401 or 403
  | { kind: "expired"; problem: Problem } // the token was good before
  | { kind: "plain" } // the server cannot be polled
  | { kind: "failed"; problem?: Problem; after?: number };

const patience = 6; // how many strikes a way of waiting has
const strikes = { late: 6, dead: 3, held: 3, cut: 2 };
const refusals = 3; // in a row, before it is for good
const slack = 15_000; // until a poll's answer begins, beyond what it is held; four times that until it has ended
const shortest = 100, longest = 86_400_000; // of reconnection times, ms; a timer of 2^31 or more would not wait at all

/**
 * One connection to the server and the ones after it: it goes on where the one before ended,
 * waits in between, and changes between streaming and polling. Sink has its notes. After close
 * it calls it no more.
 */
export class Link implements Feed {
  readonly #o: LinkOptions;
  readonly #sink: Sink;
  readonly #token: (() => string | Promise<string>) | undefined;
  #run: object | undefined | null; // set while there are attempts; null when they are over for good
  #step = new AbortController(); // of the attempt, or of the wait for it
  #id: string;
  #retry: number;
  #way: Way;
  #floor: Way = "long-polling"; // what streaming falls back to
  #strikes = 0;
  #climbs = 0;
  #climbAt = Infinity;
  #pollable: boolean;
  #sync = false; // the next attempt is a poll
  #asked = false; // a first poll is answered at once
  #failures = 0;
  #refusals = 0;
  #renewed = -Infinity;

  /** @param way to begin with; one that begins with polling goes on with it. */
  constructor(o: LinkOptions, token: (() => string | Promise<string>) | undefined, sink: Sink, id = "", way: Way = "streaming") {
    this.#o = o;
    this.#token = token;
    this.#sink = sink;
    this.#id = id;
    this.#way = way;
    this.#pollable = o.fallback;
    this.#retry = Math.min(3_000, o.maxRetry);
  }

  /** Begins, or begins anew after another id. */
  start(id = this.#id): this {
    this.close();
    this.#id = id;
    this.#asked = false;
    void this.#attempts(this.#run = {});
    return this;
  }

  close(): void {
    this.#run &&= undefined;
    this.#step.abort();
  }

  sync(): void {
    this.#sync = true;
    if (this.#run) this.start();
  }

  hide(hidden: boolean): void {
    if (this.#run === null || !hidden === !!this.#run) return;
    if (!hidden) {
      this.start();
    } else {
      this.close();
      this.#sink({ kind: "paused" });
    }
  }

  async #attempts(run: object): Promise<void> {
    for (let wait = 0; this.#run === run; ) {
      const step = this.#step = new AbortController();
      if (wait) await sleep(wait, step.signal);
      if (this.#run !== run) return;
      if (this.#way !== "streaming" && now() >= this.#climbAt) {
        this.#way = "streaming";
        this.#strikes = patience - 1;
      }
      const began = now();
      const end = await this.#attempt(step);
      if (this.#run !== run) return;
      wait = this.#after(end, now() - began);
    } // a listener of what is told there may have closed it
  }

  /** Draws the conclusions, and returns how long to wait. */
  #after(end: End, took: number): number {
    const way = this.#way;
    switch (end.kind) {
      case "stop":
        this.#run = null;
        this.#sink({ ...end, kind: "end" });
        return 0;
      case "polled":
        this.#failures = 0;
        if (end.held) this.#strikes = 0;
        return way === "polling" && !end.more ? this.#o.pollInterval : 0;
      case "plain":
        this.#pollable = this.#sync = false;
        this.#way = "streaming";
        return 0;
      case "late":
      case "dead":
        return this.#strike(strikes[end.kind]) ? 0 : this.#failed();
      case "refused":
        if (!this.#token || ++this.#refusals > refusals) return this.#after({ ...end, kind: "stop" }, took);
        return this.#failed(end.problem, this.#refusals === 1 ? 0 : undefined);
      case "expired": {
        const again = !!this.#token && now() - this.#renewed > 10_000;
        this.#renewed = now();
        return this.#failed(end.problem, again ? 0 : undefined);
      }
      case "failed":
        if (way === "streaming" && !end.problem && took < this.#steady && this.#answered) this.#strike(strikes.cut);
        if (way === "long-polling" && this.#asked && took > 1_000) this.#strike(strikes.held);
        return this.#failed(end.problem, undefined, end.after);
    }
  }

  /** Tells of a failure, and returns how long to wait. */
  #failed(problem?: Problem, wait?: number, atLeast = 0): number {
    this.#asked = false;
    const back = Math.min(this.#retry * 2 ** this.#failures++, Math.max(this.#o.maxRetry, this.#retry));
    wait ??= Math.max(back, atLeast) * (1 + Math.random() / 2); // never sooner than the server says
    this.#sink({ kind: "error", retryIn: wait, problem });
    return wait;
  }

  /** Counts against the way in use, and tells whether that has made it another one. */
  #strike(weight: number): boolean {
    this.#strikes += weight;
    if (!this.#pollable || this.#strikes < patience) return false;
    if (this.#way !== "streaming") this.#floor = "polling";
    this.#way = this.#floor;
    this.#strikes = this.#failures = 0;
    this.#asked = false;
    this.#climbAt = now() + this.#o.climbAfter * 2 ** Math.min(this.#climbs++, 4);
    return true;
  }

  /** A stream that has carried bytes for so long is no accident. */
  get #steady(): number { return (this.#o.deadAfter || 45_000) / 4; }

  #answered = false; // the attempt was

  async #attempt(step: AbortController): Promise<End> {
    this.#answered = false;
    const { signal } = step;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let ended: "late" | "dead" | "failed" = "failed";
    const within = (ms: number, otherwise: "late" | "dead"): void => {
      clearTimeout(timer);
      if (ms > 0) timer = setTimeout(() => {
        ended = otherwise;
        step.abort();
      }, Math.min(ms, longest));
    };
    try {
      const headers = new Headers(this.#o.headers);
      if (this.#token) headers.set("Authorization", "Bearer " + await this.#token());
      const streaming = this.#way === "streaming" && !this.#sync;
      const url = new URL(this.#o.url);
      if (streaming) {
        headers.set("Accept", "text/event-stream");
        // So that a break loses nothing where no event has come yet.
        if (this.#o.fallback) url.searchParams.set("heartbeat", "id");
        if (this.#id) headers.set("Last-Event-ID", byteString(this.#id));
        if (this.#pollable) within(this.#o.probeTimeout, "late");
      } else {
        headers.set("Accept", "application/json");
        if (this.#id) url.searchParams.set("last_event_id", this.#id);
        const hold = this.#way === "long-polling" && this.#asked ? this.#o.wait : 0;
        if (hold) url.searchParams.set("wait", hold + "ms");
        within(hold + slack, "dead");
      }
      const response = await fetch(url, {
        headers, signal, cache: "no-store",
        credentials: this.#o.withCredentials ? "include" : "same-origin",
      });
      this.#answered = true;
      if (!streaming || !response.ok) within(4 * slack, "dead");
      if (!streaming && response.status === 406) return { kind: "plain" };
      return await refusal(response)
        ?? (streaming ? await this.#stream(response, signal, within) : await this.#poll(response, signal));
    } catch {
      return { kind: ended };
    } finally {
      clearTimeout(timer);
      step.abort(); // of a body that nobody reads on
    }
  }

  #open(): void {
    this.#refusals = 0;
    this.#sink({ kind: "open", way: this.#way });
  }

  async #stream(response: Response, signal: AbortSignal, within: (ms: number, otherwise: "dead") => void): Promise<End> {
    const type = mediaType(response);
    if (type !== "text/event-stream") return { kind: "stop", problem: { detail: `"${type}" is no event stream: check the URL` } };
    const { origin } = new URL(response.url);
    const began = now();
    let told = false;
    const open = (): void => {
      if (!told) this.#open();
      told = true;
    };
    if (!this.#o.fallback) open();
    let problem: Problem | undefined;
    const parser = new Parser({
      event: (type, data, id) => {
        if (type === "tidewire.error") problem = parsed(data);
        else this.#failures = 0;
        this.#tell({ kind: "event", type, data, id, origin }, signal);
      },
      id: (id) => {
        this.#failures = 0;
        this.#tell({ kind: "id", id }, signal);
      },
      retry: (ms) => { this.#retry = Math.min(Math.max(ms, shortest), longest); },
    }, this.#id);
    for (const reader = response.body!.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      // Not before: the hub's first bytes tell the place from which to go on after a break.
      open();
      if (this.#pollable) within(this.#o.deadAfter, "dead");
      if (now() - began > this.#steady) {
        this.#strikes = this.#climbs = this.#failures = 0;
        this.#floor = "long-polling";
      }
      parser.feed(value);
      if (problem?.type?.endsWith(":token-expired")) return { kind: "expired", problem };
    }
    if (!problem) this.#failures = 0;
    return { kind: "failed", problem };
  }

  async #poll(response: Response, signal: AbortSignal): Promise<End> {
    const json = mediaType(response) === "application/json" && await response.json() as unknown;
    const { events, gap, last_id, closed } = Object(json) as Answer;
    if (!events || !last_id) return { kind: "plain" };
    const { origin } = new URL(response.url);
    const held = this.#asked;
    if (!held) this.#open();
    this.#asked = true;
    this.#sync = false;
    const tell = (type: string, data: string, id: string, position?: string): void =>
      this.#tell({ kind: "event", type, data, id, origin, position }, signal);
    if (gap) tell("tidewire.gap", JSON.stringify(gap), gap.resumed);
    for (const { type, data, id, position } of events) tell(type, data, id, position);
    // Unlike a publisher's id, last_id stands for one place only.
    this.#tell({ kind: "id", id: last_id, exact: true }, signal);
    return closed ? { kind: "stop" } : { kind: "polled", more: events.length > 0, held };
  }

  #tell(note: Note & { id: string }, signal: AbortSignal): void {
    if (signal.aborted) return; // by a listener of a note before
    this.#id = note.id;
    this.#sink(note);
  }
}

interface Answer {
  events: { id: string; position: string; type: string; data: string }[];
  gap: { resumed: string } | null;
  last_id: string;
  closed?: boolean;
}

/** What a status other than 200 means. */
async function refusal(response: Response): Promise<End | undefined> {
  const { status } = response;
  if (status === 200) return undefined;
  if (status === 204) return { kind: "stop" };
  const problem = { status, ...(mediaType(response).endsWith("json") ? parsed(await response.text().catch(() => "")) : {}) };
  if (status === 401 || status === 403) return { kind: "refused", problem };
  if (status >= 500 || status === 429 || status === 408) return { kind: "failed", problem, after: retryAfter(response) };
  return { kind: "stop", problem };
}

/** Reads seconds or a date (RFC 9110, section 10.2.3), as ms from now; less than 0 is past. */
function retryAfter(response: Response): number {
  const value = response.headers.get("Retry-After") ?? "";
  return Math.min(+value * 1000 || Date.parse(value) - Date.now() || 0, longest);
}

const mediaType = (response: Response): string =>
  /^[^;\s]*/.exec(response.headers.get("Content-Type") ?? "")![0].toLowerCase();

function parsed(json: string): Problem {
  try {
    return Object(JSON.parse(json)) as Problem;
  } catch {
    return {};
  }
}

/** A header's value is bytes: those of UTF-8, each as a character. */
const byteString = (s: string): string => String.fromCharCode(...new TextEncoder().encode(s));

/** The time in ms on a clock that nobody sets. */
const now = (): number => performance.now();

/** Waits, until the signal at most. */
const sleep = (ms: number, signal: AbortSignal): Promise<void> => new Promise((resolve) => {
  const timer = setTimeout(resolve, Math.min(ms, longest));
  signal.onabort = () => {
    clearTimeout(timer);
    resolve();
  };
});

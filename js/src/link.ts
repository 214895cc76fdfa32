import type { Feed, LinkOptions, Problem, Sink, Way } from "./options.js";
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
const shortest = 100, longest = 86_400_000; // of reconnection times, ms

/**
 * One connection to the server and the ones after it: it goes on where the one before ended,
 * waits in between, and changes between streaming and polling. Sink has its notes. After close
 * it calls it no more.
 */
export class Link implements Feed {
  readonly #o: LinkOptions;
  readonly #sink: Sink;
  readonly #token: (() => string | Promise<string>) | undefined;
  #run: AbortController | undefined;
  #id: string;
  #retry: number;
  #way: Way = "streaming";
  #floor: Way = "long-polling"; // what streaming falls back to
  #strikes = 0;
  #climbs = 0;
  #climbAt = 0;
  #pollable: boolean;
  #sync = false; // the next attempt is a poll
  #asked = false; // a first poll is answered at once
  #failures = 0;
  #refusals = 0;
  #renewed = -Infinity;

  constructor(o: LinkOptions, token: (() => string | Promise<string>) | undefined, sink: Sink, id = "") {
    this.#o = o;
    this.#token = token;
    this.#sink = sink;
    this.#id = id;
    this.#pollable = o.fallback;
    this.#retry = Math.min(3_000, o.maxRetry);
  }

  /** Only polls from now on, with no time between. */
  poll(): this {
    this.#way = "polling";
    this.#climbAt = Infinity;
    return this;
  }

  /** Begins, or begins anew after another id. */
  start(id = this.#id): void {
    this.close();
    this.#id = id;
    this.#asked = false;
    const run = this.#run = new AbortController();
    void this.#attempts(run.signal);
  }

  close(): void {
    this.#run?.abort();
    this.#run = undefined;
  }

  sync(): void {
    this.#sync = true;
    if (this.#run) this.start();
  }

  hide(hidden: boolean): void {
    if (!hidden === !!this.#run) return;
    if (!hidden) return this.start();
    this.close();
    this.#sink({ kind: "paused" });
  }

  async #attempts(signal: AbortSignal): Promise<void> {
    for (let wait: number | undefined = 0; wait !== undefined; ) {
      await sleep(wait, signal);
      if (signal.aborted) return;
      const climbing = this.#way !== "streaming" && Date.now() >= this.#climbAt;
      if (climbing) {
        this.#way = "streaming";
        this.#strikes = patience - 1;
      }
      const began = Date.now();
      const end = await this.#attempt(signal);
      if (signal.aborted) return;
      wait = this.#after(end, Date.now() - began);
    }
  }

  /** Draws the conclusions, and returns how long to wait; undefined for ever. */
  #after(end: End, took: number): number | undefined {
    const way = this.#way;
    switch (end.kind) {
      case "stop":
        this.#run = undefined;
        this.#sink({ ...end, kind: "end" });
        return undefined;
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
        if (this.#strike(strikes[end.kind])) return 0;
        this.#asked = false;
        return this.#failed();
      case "refused":
        if (!this.#token || ++this.#refusals > refusals) return this.#after({ kind: "stop", problem: end.problem }, took);
        return this.#failed(end.problem, this.#refusals === 1 ? 0 : undefined);
      case "expired": {
        const again = !!this.#token && Date.now() - this.#renewed > 10_000;
        this.#renewed = Date.now();
        return this.#failed(end.problem, again ? 0 : undefined);
      }
      case "failed":
        if (way === "streaming" && !end.problem && took < this.#steady && this.#opened) this.#strike(strikes.cut);
        if (way === "long-polling" && this.#asked && took > 1_000) this.#strike(strikes.held);
        this.#asked = false;
        return this.#failed(end.problem, undefined, end.after);
    }
  }

  /** Tells of a failure, and returns how long to wait. */
  #failed(problem?: Problem, wait?: number, atLeast = 0): number {
    const back = Math.min(this.#retry * 2 ** this.#failures++, Math.max(this.#o.maxRetry, this.#retry));
    wait ??= Math.max(back, atLeast) * (1 + Math.random() / 2); // never sooner than the server says
    this.#sink({ kind: "error", retryIn: Math.round(wait), ...(problem && { problem }) });
    return wait;
  }

  /** Counts against the way in use, and tells whether that has made it another one. */
  #strike(weight: number): boolean {
    this.#strikes += weight;
    if (!this.#pollable || this.#strikes < patience) return false;
    if (this.#way === "long-polling") this.#floor = "polling";
    this.#way = this.#floor;
    this.#strikes = this.#failures = 0;
    this.#asked = false;
    this.#climbAt = Date.now() + this.#o.climbAfter * 2 ** Math.min(this.#climbs++, 4);
    return true;
  }

  /** A stream that has carried bytes for so long is no accident. */
  get #steady(): number { return (this.#o.deadAfter || 45_000) / 4; }

  #opened = false; // the attempt's answer was good

  async #attempt(run: AbortSignal): Promise<End> {
    this.#opened = false;
    const attempt = new AbortController();
    const stop = (): void => attempt.abort();
    run.addEventListener("abort", stop);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const within = (ms: number, end: End): void => {
      clearTimeout(timer);
      if (ms > 0) timer = setTimeout(() => attempt.abort(end), ms);
    };
    try {
      const headers = new Headers(this.#o.headers);
      if (this.#token) headers.set("Authorization", "Bearer " + await this.#token());
      const streaming = this.#way === "streaming" && !this.#sync;
      const url = new URL(this.#o.url);
      if (streaming) {
        headers.set("Accept", "text/event-stream");
        // So that a break loses nothing where no event has come yet.
        if (this.#o.fallback && !url.searchParams.has("heartbeat")) url.searchParams.set("heartbeat", "id");
        if (this.#id) headers.set("Last-Event-ID", byteString(this.#id));
        if (this.#pollable) within(this.#o.probeTimeout, { kind: "late" });
      } else {
        headers.set("Accept", "application/json");
        if (this.#id) url.searchParams.set("last_event_id", this.#id);
        const hold = this.#way === "long-polling" && this.#asked ? this.#o.wait : 0;
        if (hold) url.searchParams.set("wait", hold + "ms");
        within(hold + (this.#o.deadAfter / 3 || 15_000), { kind: "dead" });
      }
      const response = await fetch(url, {
        headers, signal: attempt.signal, cache: "no-store",
        credentials: this.#o.withCredentials ? "include" : "same-origin",
      });
      return await refusal(response)
        ?? (streaming ? await this.#stream(response, attempt.signal, within) : await this.#poll(response, attempt.signal));
    } catch {
      const reason = attempt.signal.reason as Partial<End> | undefined;
      return reason?.kind ? reason as End : { kind: "failed" };
    } finally {
      clearTimeout(timer);
      run.removeEventListener("abort", stop);
      attempt.abort(); // of a body that nobody reads on
    }
  }

  #open(origin: string): void {
    this.#opened = true;
    this.#refusals = 0;
    this.#sink({ kind: "open", origin, way: this.#way });
  }

  async #stream(response: Response, signal: AbortSignal, within: (ms: number, end: End) => void): Promise<End> {
    if (mediaType(response) !== "text/event-stream" || !response.body) return wrongType(response);
    const { origin } = new URL(response.url);
    const began = Date.now();
    this.#open(origin);
    let problem: Problem | undefined;
    const parser = new Parser({
      event: (type, data, id) => {
        if (signal.aborted) return;
        this.#id = id;
        this.#sink({ kind: "event", type, data, id, origin });
        if (type === "tidewire.error") problem = parsed(data);
        else this.#failures = 0;
      },
      id: (id) => {
        if (signal.aborted) return;
        this.#id = id;
        this.#failures = 0;
        this.#sink({ kind: "id", id });
      },
      retry: (ms) => { this.#retry = Math.min(Math.max(ms, shortest), longest); },
    }, this.#id);
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      if (this.#pollable) within(this.#o.deadAfter, { kind: "dead" });
      if (Date.now() - began > this.#steady) {
        this.#strikes = this.#climbs = this.#failures = 0;
        this.#floor = "long-polling";
      }
      parser.feed(value);
      if (problem?.type?.endsWith(":token-expired")) return { kind: "expired", problem };
    }
    if (!problem) this.#failures = 0;
    return { kind: "failed", ...(problem && { problem }) };
  }

  async #poll(response: Response, signal: AbortSignal): Promise<End> {
    if (mediaType(response) !== "application/json") return { kind: "plain" };
    const { origin } = new URL(response.url);
    const answer = await response.json() as Answer;
    if (signal.aborted) return { kind: "failed" };
    const held = this.#asked;
    if (!held) this.#open(origin);
    this.#asked = true;
    this.#sync = false;
    if (answer.gap) this.#tell("tidewire.gap", JSON.stringify(answer.gap), answer.gap.resumed, origin);
    for (const { type, data, id, position } of answer.events) {
      if (signal.aborted) return { kind: "failed" };
      this.#tell(type, data, id, origin, position);
    }
    if (signal.aborted) return { kind: "failed" };
    this.#id = answer.last_id; // unlike a publisher's id it stands for one place only
    this.#sink({ kind: "id", id: answer.last_id, exact: true });
    return answer.closed ? { kind: "stop" } : { kind: "polled", more: answer.events.length > 0, held };
  }

  #tell(type: string, data: string, id: string, origin: string, position = id): void {
    this.#id = id;
    this.#sink({ kind: "event", type, data, id, origin, position });
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
  const problem = { status, ...(mediaType(response).endsWith("json") ? parsed(await response.text()) : {}) };
  if (status === 401 || status === 403) return { kind: "refused", problem };
  if (status >= 500 || status === 429 || status === 408) return { kind: "failed", problem, after: retryAfter(response) };
  return { kind: "stop", problem };
}

/** Reads seconds or a date (RFC 9110, section 10.2.3), as ms from now. */
function retryAfter(response: Response): number {
  const value = response.headers.get("Retry-After") ?? "";
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Math.min(Math.max(ms || 0, 0), longest);
}

function wrongType(response: Response): End {
  return { kind: "stop", problem: { detail: `the answer is ${mediaType(response) || "of no type"}, and must be text/event-stream: look at what answers at ${response.url}` } };
}

const mediaType = (response: Response): string =>
  (response.headers.get("Content-Type") ?? "").split(";")[0]!.trim().toLowerCase();

function parsed(json: string): Problem {
  try {
    return Object(JSON.parse(json)) as Problem;
  } catch {
    return {};
  }
}

/** A header's value is bytes: those of UTF-8, each as a character. */
const byteString = (s: string): string => Array.from(new TextEncoder().encode(s), (b) => String.fromCharCode(b)).join("");

/** Waits, until the signal at most; when the network comes back, no longer. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (!ms) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      globalThis.removeEventListener?.("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    globalThis.addEventListener?.("online", done);
  });
}

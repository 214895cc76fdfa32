// The SharedWorker of sources with workerUrl: one connection for each key.

import { Link } from "./link.js";
import type { LinkOptions, Note } from "./options.js";
import { Counter } from "./place.js";
import type { FromWorker, ToWorker } from "./workerfeed.js";

const tokenWithin = 10_000; // ms for a page to answer, before another one is asked

/** The pages of one key, and their connection. */
class Shared {
  readonly #hidden = new Map<MessagePort, boolean>();
  readonly #counter = new Counter();
  readonly #link: Link;
  #opened: Note | undefined;
  #asked = 0;
  #answers = new Map<number, (token: string | undefined) => void>();

  readonly #key: string;

  constructor(key: string, options: LinkOptions, token: boolean) {
    this.#key = key;
    this.#link = new Link(options, token ? () => this.#token() : undefined, (note) => this.#publish(note));
  }

  join(port: MessagePort, hidden: boolean): void {
    this.#hidden.set(port, hidden);
    post(port, { kind: "now", at: this.#counter.at, open: this.#opened });
    this.#look();
  }

  sync(): void { this.#link.sync(); }

  /** Returns whether nobody is left. */
  leave(port: MessagePort): boolean {
    this.#hidden.delete(port);
    if (this.#hidden.size) return this.#look(), false;
    this.#link.close();
    return true;
  }

  seen(port: MessagePort, hidden: boolean): void {
    if (this.#hidden.has(port)) this.#hidden.set(port, hidden); // it may have left
    this.#look();
  }

  #look(): void {
    this.#link.hide([...this.#hidden.values()].every(Boolean));
  }

  answer(m: ToWorker & { kind: "token" }): void {
    this.#answers.get(m.q)?.(m.token);
  }

  #publish(note: Note): void {
    if (!("id" in note)) this.#opened = note.kind === "open" ? note : undefined;
    const all = this.#counter.number(note);
    for (const port of this.#hidden.keys()) post(port, { kind: "note", all });
    if (note.kind === "end") everyone.delete(this.#key);
  }

  /** Asks the pages for a token, one after another, the newest first. */
  async #token(): Promise<string> {
    for (const port of [...this.#hidden.keys()].reverse()) {
      const q = ++this.#asked;
      const token = await new Promise<string | undefined>((resolve) => {
        const late = setTimeout(resolve, tokenWithin, undefined);
        this.#answers.set(q, (token) => {
          clearTimeout(late);
          resolve(token);
        });
        post(port, { kind: "token", q });
      });
      this.#answers.delete(q);
      if (token !== undefined) return token;
    }
    throw new Error("get a token: no page has answered with one");
  }
}

function post(port: MessagePort, m: FromWorker): void {
  port.postMessage(m);
}

const everyone = new Map<string, Shared>();

addEventListener("connect", (e) => {
  const port = (e as MessageEvent).ports[0]!;
  let key = "";
  const leave = (): void => {
    const shared = everyone.get(key);
    if (shared?.leave(port)) everyone.delete(key);
  };
  port.addEventListener("close", leave); // where browsers tell that a page is gone
  port.onmessage = ({ data: m }: MessageEvent<ToWorker>) => {
    if (m.kind === "join") {
      key = m.key;
      let shared = everyone.get(key);
      if (!shared) everyone.set(key, shared = new Shared(key, m.options, m.token));
      return shared.join(port, m.hidden);
    }
    const shared = everyone.get(key);
    switch (m.kind) {
      case "seen":
        return shared?.seen(port, m.hidden);
      case "sync":
        return shared?.sync();
      case "token":
        return shared?.answer(m);
      case "bye":
        return leave();
    }
  };
});

/** What a parser finds, in the order of the stream. */
export interface Findings {
  /** An event. Its id is the last one so far, `""` if there is none. */
  event(type: string, data: string, id: string): void;
  /** A block with an id and no data: no event, but the stream has come so far. */
  id(id: string): void;
  /** A reconnection time, in ms: digits as they stand, so it may be `Infinity`. */
  retry(ms: number): void;
}

/**
 * Parses one response body as an event stream (HTML standard, section 9.2.6). How the bytes
 * are cut changes nothing. An event that the end of the body cuts is dropped.
 */
export class Parser {
  readonly #found: Findings;
  readonly #decoder = new TextDecoder(); // drops one byte order mark; U+FFFD for what is no UTF-8
  #line = ""; // the part of a line that has come
  #afterCR = false;
  #type = "";
  #data: string[] = [];
  #idBefore: string;
  #id: string;

  /** @param id the last one of the connections before: events without one carry it on. */
  constructor(found: Findings, id = "") {
    this.#found = found;
    this.#id = this.#idBefore = id;
  }

  feed(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return; // but a part of a character
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text.endsWith("\r");
    const ends = /\r\n?|\n/g;
    let begin = 0;
    for (let end; (end = ends.exec(text)); begin = ends.lastIndex) {
      const line = this.#line + text.slice(begin, end.index);
      this.#line = "";
      this.#take(line);
    }
    this.#line += text.slice(begin);
  }

  #take(line: string): void {
    if (!line) return this.#dispatch();
    const [, name, value] = /^([^:]*):? ?(.*)/s.exec(line) as unknown as [string, string, string];
    switch (name) {
      case "data":
        this.#data.push(value);
        break;
      case "event":
        this.#type = value;
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.#found.retry(Number(value));
    }
  }

  #dispatch(): void {
    const [type, data, moved] = [this.#type, this.#data, this.#id !== this.#idBefore];
    this.#type = "";
    this.#data = [];
    this.#idBefore = this.#id;
    if (data.length) this.#found.event(type || "message", data.join("\n"), this.#id);
    else if (moved) this.#found.id(this.#id);
  }
}

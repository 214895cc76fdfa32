import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Parser } from "../src/parser.js";

interface WantEvent {
  type?: string; type_len?: number; type_sha256?: string;
  data?: string; data_len?: number; data_sha256?: string;
  id?: string; id_len?: number; id_sha256?: string;
}

interface Vector {
  name: string;
  stream_b64?: string;
  stream_parts?: [string, number][];
  chunks: number[] | "bytewise" | null;
  expect: WantEvent[];
  expect_count?: number;
  retry: number | null;
  lastEventId: string;
}

const vectors = readFileSync(new URL("../../internal/vectors/testdata/stream.jsonl", import.meta.url), "utf8")
  .trimEnd().split("\n").map((line) => JSON.parse(line) as Vector);

const bytesOf = (v: Vector): Buffer => v.stream_b64 !== undefined ? Buffer.from(v.stream_b64, "base64")
  : Buffer.concat(v.stream_parts!.flatMap(([part, times]) => Array<Buffer>(times).fill(Buffer.from(part, "base64"))));

/** Parses a stream that is cut at some places. */
function parse(bytes: Uint8Array, cuts: Iterable<number>) {
  const got = { events: [] as { type: string; data: string; id: string }[], retry: null as number | null, lastEventId: "" };
  const parser = new Parser({
    event: (type, data, id) => { got.events.push({ type, data, id }); got.lastEventId = id; },
    id: (id) => { got.lastEventId = id; },
    retry: (ms) => { got.retry = ms; },
  });
  let from = 0;
  for (const to of cuts) {
    parser.feed(bytes.subarray(from, to));
    from = to;
  }
  parser.feed(bytes.subarray(from));
  return got;
}

const sha256 = (s: string) => createHash("sha256").update(s).digest("hex");

function check(v: Vector, got: ReturnType<typeof parse>): void {
  expect(got.events.length).toBe(v.expect_count ?? v.expect.length);
  got.events.slice(0, v.expect.length).forEach((event, i) => {
    const want = v.expect[i]!;
    for (const field of ["type", "data", "id"] as const) {
      if (want[field] !== undefined) expect(event[field]).toBe(want[field]);
      if (want[`${field}_len`] === undefined) continue;
      expect([...event[field]].length).toBe(want[`${field}_len`]);
      expect(sha256(event[field])).toBe(want[`${field}_sha256`]);
    }
  });
  expect(got.retry).toBe(v.retry);
  expect(got.lastEventId).toBe(v.lastEventId);
}

function* every(size: number, length: number) {
  for (let at = size; at < length; at += size) yield at;
}

function* after(sizes: number[]) {
  let at = 0;
  for (const size of sizes) yield at += size;
}

describe.each(vectors.map((v) => [v.name, v] as const))("%s", (_, v) => {
  const bytes = bytesOf(v);
  test("whole", () => check(v, parse(bytes, [])));
  test("byte by byte", () => check(v, parse(bytes, every(1, bytes.length))));
  if (Array.isArray(v.chunks)) {
    const sizes = v.chunks;
    test("in its chunks", () => check(v, parse(bytes, after(sizes))));
  }
  if (bytes.length < 2_000) {
    test("cut at every point", () => {
      for (let at = 0; at <= bytes.length; at++) check(v, parse(bytes, [at]));
    });
  }
});

test("an event without an id carries that of the connection before", () => {
  const ids: string[] = [];
  new Parser({ event: (_type, _data, id) => ids.push(id), id() {}, retry() {} }, "before").feed(Buffer.from("data: x\n\nid\ndata: y\n\n"));
  expect(ids).toEqual(["before", ""]);
});

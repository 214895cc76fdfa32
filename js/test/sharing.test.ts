import { expect, onTestFinished, test, vi } from "vitest";
import { Counter, Place } from "../src/place.js";
import type { Note } from "../src/options.js";
import { type Call, listen, serve, uncaught } from "./world.js";

const until = (check: () => void) => vi.waitFor(check, { timeout: 40_000, interval: 5 });

const event = (id: string, type = "message"): Note => ({ kind: "event", type, data: "", id, origin: "" });

test("a place takes each event once, though ids repeat", () => {
  const counter = new Counter(), place = new Place();
  const all = ["a", "a", "b"].map((id) => counter.number(event(id)));
  expect(all.map((m) => place.take(m))).toEqual(["new", "new", "new"]);
  expect(all.map((m) => place.take(m))).toEqual(["old", "old", "old"]);
  const missed = counter.number(event("c"));
  expect(place.take(counter.number(event("d")))).toBe("missing");
  expect(place.take(missed)).toBe("new");
});

test("an error that one connection was told is not counted", () => {
  const counter = new Counter(), ahead = new Place();
  expect(ahead.take(counter.number(event("a")))).toBe("new");
  const from = { ...counter.at };
  expect(ahead.take(counter.number(event("a", "tidewire.error")))).toBe("new");
  counter.at = from; // a new leader goes on from a tab that was not told
  expect(ahead.take(counter.number(event("b")))).toBe("new");
});

test("behind a gap numbers are beyond all before", () => {
  const counter = new Counter(), ahead = new Place();
  const first = counter.number(event("a"));
  const from = { ...counter.at };
  expect(ahead.take(first)).toBe("new");
  for (const id of ["b", "c"]) ahead.take(counter.number(event(id)));
  counter.at = from; // a new leader goes on from a tab that is behind
  expect(ahead.take(counter.number(event("x", "tidewire.gap")))).toBe("new");
  expect(ahead.take(counter.number(event("d")))).toBe("new");
});

test("numbers of another era are told from those before", () => {
  const place = new Place();
  place.take(new Counter().number(event("a")));
  expect(place.take(new Counter().number(event("a")))).toBe("lost");
});

test("sources of a page have one connection", async () => {
  const { url, calls } = await serve((c) => c.stream());
  const all = [listen(url, { share: true }), listen(url, { share: true }), listen(url, { share: "other" })];
  await until(() => expect(all.map(({ source }) => source.readyState)).toEqual([1, 1, 1]));
  expect(calls.length).toBe(2);
  calls[0]!.response.write("id: 1\ndata: x\n\n");
  await until(() => expect([all[0]!.data, all[1]!.data]).toEqual([["x"], ["x"]]));
  const late = listen(url, { share: true });
  await until(() => expect([late.log, late.source.lastEventId]).toEqual([["open"], "1"]));
  for (const { source } of [all[0]!, all[1]!]) source.close();
  expect(calls[0]!.response.destroyed).toBe(false);
  late.source.close();
  await until(() => expect(calls[0]!.response.destroyed).toBe(true));
});

test("sources of a page have a token from the first", async () => {
  const { url, calls } = await serve((c) => c.stream());
  const { source, log } = listen(url, { share: true, getToken: () => "t" });
  await until(() => expect(source.readyState).toBe(1));
  expect([log, calls[0]!.request.headers.authorization]).toEqual([["open"], "Bearer t"]);
});

test("what onGap of one source throws is no matter to the others", async () => {
  const errors = uncaught();
  const { url, calls } = await serve((c) => c.stream(`id: 5\nevent: tidewire.gap\ndata: {"reason":"expired"}\n\nid: 6\ndata: six\n\n`));
  const all = [listen(url, { share: true, onGap: ({ reason }) => { throw reason; } }), listen(url, { share: true })];
  await until(() => expect(all.map(({ data }) => data)).toEqual([["six"], ["six"]]));
  expect([errors, calls.length]).toEqual([["expired"], 1]);
});

test("a source that fails on its way to the others is open when it is there", async () => {
  const held: Call[] = [];
  const { url, calls } = await serve((c) => {
    if (c.way === "streaming") return c.stream();
    if (c.url.searchParams.get("last_event_id") !== "e-3") return c.poll({ last_id: "e-4" });
    if (held.push(c) > 1) c.poll({ events: [{ id: "e-4", data: "4" }], last_id: "e-4" });
  });
  const live = listen(url, { share: true, maxRetry: 200 });
  const late = listen(url, { share: true, maxRetry: 200, lastEventId: "e-3" });
  await until(() => expect(held.length).toBe(1));
  const stream = () => calls.findLast((c) => c.way === "streaming" && c.request.headers["last-event-id"] === "e-4")!;
  await until(() => expect(stream()).toBeTruthy());
  stream().response.write("id: e-5\ndata: 5\n\n");
  await until(() => expect(live.data).toEqual(["5"]));
  held[0]!.status(503);
  await until(() => expect(late.data).toEqual(["4", "5"]));
  expect(late.log).toEqual(["open", "error 0", "open"]);
  expect(late.source.state).toEqual(live.source.state);
});

test("a source never streams on its way to the others", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
  onTestFinished(() => { vi.useRealTimers(); });
  let own = 0;
  const { url, calls } = await serve((c) => {
    if (c.way === "streaming") return c.stream();
    if (c.url.searchParams.get("last_event_id") !== "e-3") return c.poll({ last_id: "e-4" });
    if (++own > 2) c.status(503); // else nothing comes
  });
  listen(url, { share: true, deadAfter: 0, lastEventId: "e-3" });
  const streams = () => calls.filter((c) => c.request.headers["last-event-id"] === "e-3");
  for (let i = 0; i < 1_000 && own < 12 && !streams().length; i++) {
    await vi.advanceTimersByTimeAsync(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect([own, streams().length]).toEqual([12, 0]);
});

test("a source with a beginning of its own comes to where the others are", async () => {
  let newest = 4;
  const { url, calls } = await serve((c) => {
    if (c.way === "streaming") return c.stream();
    const after = Number(c.url.searchParams.get("last_event_id")?.slice(2) ?? (c.url.searchParams.has("since") ? 0 : newest));
    const events = [];
    for (let n = after + 1; n <= Math.min(newest, after + 2); n++) events.push({ id: "e-" + n, data: String(n) });
    c.poll({ events, last_id: events.at(-1)?.id ?? "e-" + after });
  });
  const live = listen(url, { share: true });
  await until(() => expect(live.source.readyState).toBe(1));
  newest = 5; // which the stream has not brought yet
  const since = listen(url + "?since=earliest", { share: true });
  const stored = listen(url, { share: true, lastEventId: "e-3" });
  await until(() => expect(since.data).toEqual(["1", "2", "3", "4", "5"]));
  await until(() => expect(stored.data).toEqual(["4", "5"]));
  const streams = () => calls.filter((c) => c.way === "streaming" && !c.response.destroyed && c.url.search === calls[0]!.url.search);
  await until(() => expect(streams().length).toBe(1));
  const send = (text: string) => streams()[0]!.response.write(text);
  send("id: e-6\ndata: 6\n\n");
  await until(() => expect([live.data.at(-1), stored.data]).toEqual(["6", ["4", "5", "6"]]));
});

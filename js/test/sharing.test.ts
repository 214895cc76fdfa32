import { expect, test, vi } from "vitest";
import { Counter, Place } from "../src/place.js";
import type { Note } from "../src/options.js";
import { listen, serve } from "./world.js";

const until = (check: () => void) => vi.waitFor(check, { timeout: 10_000, interval: 5 });

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

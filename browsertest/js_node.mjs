// The browser client in Node, with and without proxies that stand in the way.
//
//   node js_node.mjs URL MODULE

import { setInterval } from "node:timers/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { assert, assertConsecutive, base, check, publish } from "./checks.mjs";

const { TidewireSource } = await import(pathToFileURL(resolve(process.argv[3])));

const url = (path) => new URL(path, base).href;

/** Publishes 1 to n, and has a source receive them, each once. */
async function receives(path, topic, n, options, onOpen) {
  const ways = new Set();
  const source = new TidewireSource(url(path + topic), { ...options, onState: ({ readyState, way }) => { if (readyState === 1) ways.add(way); } });
  await new Promise((resolve) => { source.onopen = resolve; });
  onOpen?.();
  const published = (async () => {
    let next = 1;
    for await (const _ of setInterval(20)) {
      await publish("/" + topic, String(next));
      if (next++ === n) return;
    }
  })();
  const numbers = [];
  for await (const { data } of source) if (numbers.push(Number(data)) && Number(data) === n) break;
  await published;
  assertConsecutive(numbers);
  assert.deepEqual([numbers[0], numbers.length], [1, n]);
  return [...ways];
}

await Promise.all([
  check("receives all, and ends with the topic", async () => {
    const topic = "node-plain";
    const source = new TidewireSource(url("/events/" + topic));
    const got = [];
    source.onopen = async () => {
      await publish("/" + topic, "one\ntwo");
      await publish(`/${topic}?type=price`, "é😀");
      await publish(`/${topic}?end=true`, "last");
    };
    for await (const { type, data } of source) got.push([type, data]);
    assert.deepEqual(got, [["message", "one\ntwo"], ["price", "é😀"], ["message", "last"]]);
  }),
  check("is cut, and goes on", async () => {
    const cut = () => fetch(url("/admin/subscriptions?topic=node-cut"), { method: "DELETE" });
    assert.deepEqual(await receives("/events/", "node-cut", 50, {}, () => setTimeout(cut, 300)), ["streaming"]);
  }),
  check("long-polls where a proxy buffers", async () => {
    assert.deepEqual(await receives("/buffered/events/", "node-buffered", 100, { probeTimeout: 300 }), ["long-polling"]);
  }),
  check("polls where a proxy cuts everything soon", async () => {
    const ways = await receives("/cut/events/", "node-cuts", 300, { probeTimeout: 200, pollInterval: 100, maxRetry: 200 });
    assert.deepEqual(ways.slice(0, 1), ["streaming"]);
    assert.ok(ways.length > 1, ways.join());
  }),
  check("a stored id goes on after it", async () => {
    const topic = "node-stored";
    const ids = [];
    for (let i = 1; i <= 3; i++) ids.push((await publish("/" + topic, String(i))).id);
    const got = [];
    for await (const { data } of new TidewireSource(url("/events/" + topic), { lastEventId: ids[0] })) if (got.push(data) === 2) break;
    assert.deepEqual(got, ["2", "3"]);
  }),
  check("an id that is unknown is a gap that is told", async () => {
    const topic = "node-gap";
    await publish("/" + topic, "1");
    const gaps = [];
    for await (const _ of new TidewireSource(url("/events/" + topic), { lastEventId: "nobody-knows", onGap: (gap) => gaps.push(gap) })) break;
    assert.deepEqual(gaps.map(({ reason, requested }) => [reason, requested]), [["unknown", "nobody-knows"]]);
  }),
]);

// The npm package eventsource against the server.

import { EventSource } from "eventsource";
import { assert, assertConsecutive, base, check, publish } from "./checks.mjs";

const url = (path) => new URL(path, base).href;

/** Resolves with what fn passes on, and closes the source then. */
function watch(source, fn) {
  return new Promise((resolve, reject) => fn(resolve, reject)).finally(() => source.close());
}

await Promise.all([
  check("receives messages and types of its own", async () => {
    const source = new EventSource(url("/events/test/npm"));
    const got = [];
    await watch(source, (resolve) => {
      source.onopen = async () => {
        await publish("/test/npm", "one\ntwo");
        await publish("/test/npm?type=price", "9.80");
        await publish("/test/npm?type=other", "not wanted");
        await publish("/test/npm?id=last", "é😀");
      };
      source.onmessage = ({ type, data, lastEventId }) => {
        got.push([type, data]);
        if (lastEventId === "last") resolve();
      };
      source.addEventListener("price", ({ type, data }) => got.push([type, data]));
    });
    assert.deepEqual(got, [["message", "one\ntwo"], ["price", "9.80"], ["message", "é😀"]]);
  }),

  check("is cut, comes back and has missed nothing", async () => {
    const source = new EventSource(url("/demo/stream?token=npm"));
    const numbers = [], states = [];
    let cutAt = 0;
    await watch(source, (resolve, reject) => {
      source.onopen = () => states.push("open " + source.readyState);
      source.onerror = () => states.push("error " + source.readyState);
      source.onmessage = async ({ data }) => {
        const { count } = JSON.parse(data);
        numbers.push(count);
        if (numbers.length === 2) {
          cutAt = count;
          const response = await fetch(url("/demo/cut?token=npm"), { method: "POST" });
          const answer = await response.json();
          if (answer.cut !== 1) reject(new Error(`${answer.cut} streams were cut`));
        }
        // Five come in the three seconds in between.
        if (cutAt && count >= cutAt + 8) resolve();
      };
    });
    assertConsecutive(numbers);
    assert.deepEqual(states, ["open 1", "error 0", "open 1"]);
  }),

  check("stops for good when the topic is closed", async () => {
    await publish("/test/npm-closed", "first");
    await publish("/test/npm-closed?end=true", "last");
    const source = new EventSource(url("/events/test/npm-closed?since=earliest"));
    const got = [], errors = [];
    await watch(source, (resolve) => {
      source.onmessage = ({ data }) => got.push(data);
      source.onerror = ({ code }) => {
        errors.push([source.readyState, code]);
        if (source.readyState === EventSource.CLOSED) resolve();
      };
    });
    assert.deepEqual(got, ["first", "last"]);
    assert.deepEqual(errors.at(-1), [EventSource.CLOSED, 204]);
    assert.equal(errors.length, 2);
  }),
]);

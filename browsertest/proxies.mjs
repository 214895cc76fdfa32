// The browser client in Node, behind a proxy that streams, buffers, or cuts what is idle
// for 2 s. Events are published past the proxy.
//
//   node proxies.mjs HUB MODULE PROXY streams|buffers|cuts

import { resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { assert, check, publish } from "./checks.mjs";

const [, , , module, proxy, does] = process.argv;
const { TidewireSource } = await import(pathToFileURL(resolve(module)));

const bursts = 4, burst = 10; // events in each
const topic = new URL(proxy).port;

await check(does, async () => {
  const opened = [], numbers = [], gaps = [];
  let errors = 0;
  const source = new TidewireSource(`${proxy}/events/${topic}`, {
    probeTimeout: 4_000, deadAfter: 60_000, pollInterval: 100, maxRetry: 200,
    onGap: (gap) => gaps.push(gap),
  });
  source.onmessage = ({ data }) => numbers.push(Number(data));
  source.onerror = () => errors++;
  await new Promise((resolve) => {
    source.onopen = () => {
      opened.push(source.state.way);
      resolve();
    };
  });

  const received = async (n) => {
    while (numbers.length < n) await setTimeout(5);
  };
  let n = 0;
  for (let i = 0; i < bursts; i++) {
    // Where idle connections are cut, some events come while there is none.
    if (i > 0) await setTimeout(does === "cuts" ? 2_000 + 100 * i : 300);
    for (let j = 0; j < burst; j++) {
      await publish("/" + topic, String(++n));
      await setTimeout(20);
    }
    if (does !== "cuts") await received(n); // without others that push them on
  }
  await received(n);
  await setTimeout(100); // for those that come twice
  const { way } = source.state;
  source.close();

  assert.deepEqual(numbers, Array.from({ length: n }, (_, i) => i + 1));
  assert.deepEqual(gaps, []);
  switch (does) {
    case "streams":
      assert.deepEqual([opened, way, errors], [["streaming"], "streaming", 0]);
      break;
    case "buffers":
      assert.equal(way, "long-polling");
      assert.equal(errors, 0);
      break;
    case "cuts":
      assert.equal(opened[0], "streaming");
      assert.ok(errors >= 2, `${errors} cuts; open ${opened}`);
  }
});

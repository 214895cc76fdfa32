// Streams in gzip: fetch in Node, and EventSource and fetch in Chromium. Each event is
// published when the one before has come, so that one that is held back is never seen.

import { chromium } from "playwright-core";
import { assert, base, check, publish } from "./checks.mjs";

const url = (path) => new URL(path, base).href;

/** Events below and above what is worth compressing, and one that cannot be. */
const texts = [
  "short", "é😀", "x".repeat(511), "y".repeat(600),
  JSON.stringify(Array.from({ length: 40 }, (_, i) => ({ id: i * 7919, state: "waiting" }))),
  Array.from({ length: 70_000 }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join(""),
  "z".repeat(300_000), "last",
];

await check("fetch in Node", async () => {
  const response = await fetch(url("/events/gzip/node"));
  assert.equal(response.headers.get("content-encoding"), "gzip");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let got = "";
  for (const text of texts) {
    await publish("/gzip/node", text);
    while (!got.endsWith("data: " + text + "\n\n")) {
      const { value, done } = await reader.read();
      assert.ok(!done, "the stream has ended");
      got += value;
    }
  }
  await publish("/gzip/node?end=true", "end");
  for (let done = false; !done;) ({ done } = await reader.read());
});

const browser = await chromium.launch({ executablePath: process.argv[3], args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"] });
try {
  const page = await browser.newPage();
  await page.goto(base);

  await check("EventSource in Chromium", async () => {
    const seen = page.waitForResponse((r) => r.url().includes("/events/gzip/page"));
    await page.evaluate(() => {
      window.got = [];
      window.source = new EventSource("/events/gzip/page");
      window.source.onmessage = ({ data }) => window.got.push(data);
      return new Promise((resolve) => window.source.onopen = resolve);
    });
    assert.equal((await seen).headers()["content-encoding"], "gzip");
    for (const [i, text] of texts.entries()) {
      await publish("/gzip/page", text);
      await page.waitForFunction((n) => window.got.length > n, i);
    }
    assert.deepEqual(await page.evaluate(() => window.got), texts);
    // It ends, comes back, and is told that there is no more.
    await publish("/gzip/page?end=true", "end");
    await page.waitForFunction(() => window.source.readyState === 2);
  });

  // Events that are alike refer to those before them, and who comes later does not have those.
  // Chromium has six connections, and so three of these streams.
  await check("those who come at any time, in Chromium and Node", async () => {
    const total = 200, orders = [];
    for (let i = 0; i < total; i++) orders.push(JSON.stringify({ number: i, state: "waiting", price: i * 7919 % 1000, note: "alike but for its numbers" }));
    await page.evaluate(() => window.streams = []);
    const fetched = [];
    const come = async (begin) => {
      if (begin % 2 === 0) await page.evaluate(([begin]) => new Promise((resolve) => {
        const source = new EventSource("/events/gzip/alike"), stream = { begin, got: [] };
        source.onmessage = ({ data }) => stream.got.push(data);
        source.onopen = resolve;
        source.onerror = () => source.readyState === 2 || source.close(); // the topic has ended
        window.streams.push(stream);
      }), [begin]);
      const response = await fetch(url("/events/gzip/alike"));
      assert.equal(response.headers.get("content-encoding"), "gzip");
      fetched.push({ begin, text: response.text() });
    };
    for (const [i, order] of orders.entries()) {
      if ([0, 1, 40, 63, 65, 130].includes(i)) await come(i);
      await publish("/gzip/alike" + (i === total - 1 ? "?end=true" : ""), order);
    }
    for (const { begin, text } of fetched) {
      const got = (await text).split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      assert.deepEqual(got, orders.slice(begin));
    }
    await page.waitForFunction((total) => window.streams.every(({ begin, got }) => got.length === total - begin), total);
    for (const { begin, got } of await page.evaluate(() => window.streams)) assert.deepEqual(got, orders.slice(begin));
  });

  await check("history in Chromium", async () => {
    for (let i = 0; i < 500; i++) await publish("/gzip/history", `${i} ${"z".repeat(i)}`);
    const got = await page.evaluate(() => new Promise((resolve) => {
      const got = [], source = new EventSource("/events/gzip/history?since=earliest");
      source.onmessage = ({ data }) => {
        got.push(data);
        if (data.startsWith("499 ")) resolve(got), source.close();
      };
    }));
    assert.deepEqual(got, Array.from({ length: 500 }, (_, i) => `${i} ${"z".repeat(i)}`));
  });

  await check("fetch in Chromium", async () => {
    const got = await page.evaluate(async () => {
      const response = await fetch("/events/gzip/history?since=earliest", { headers: { Accept: "application/x-ndjson" } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (!text.includes("499 ")) text += (await reader.read()).value;
      await reader.cancel();
      return [response.headers.get("content-encoding"), text.split("\n").filter((line) => line).length];
    });
    assert.deepEqual(got, ["gzip", 500]);
  });
} finally {
  await browser.close();
}

// The npm package @microsoft/fetch-event-source in pages of headless Chromium.
//
//   node fetchsource.mjs URL CHROMIUM

import { assert, assertConsecutive, base, publish } from "./checks.mjs";
import { browser, inBrowser } from "./browser.mjs";

/** Opens a page that subscribes: window.seen has what the library passes on. */
async function subscribe(context, path, options = {}) {
  const page = await context.newPage();
  const ids = page.ids = []; // of the requests
  page.on("request", (request) => {
    if (request.url() === base + path) ids.push(request.headers()["last-event-id"] ?? "");
  });
  await page.goto(base);
  await page.evaluate(async ([path, options]) => {
    const { fetchEventSource } = await import("/client/fetch.js");
    const seen = window.seen = { opened: 0, messages: [], errors: 0 };
    void fetchEventSource(path, {
      ...options,
      onopen: async () => { seen.opened++; },
      onmessage: (message) => seen.messages.push(message),
      onclose: () => { throw new Error("ended"); }, // or it would not come back
      onerror: () => { seen.errors++; },
    });
  }, ["/" + path, options]);
  await page.waitForFunction(() => window.seen.opened >= 1, undefined, { polling: 10 });
  return page;
}

const seen = (page) => page.evaluate(() => window.seen);

/** Waits for so many messages, and a while for more than that. */
async function messages(page, n) {
  await page.waitForFunction((n) => window.seen.messages.length >= n, n, { polling: 10, timeout: 20_000 });
  await page.waitForTimeout(200);
  return (await seen(page)).messages;
}

/** Fails unless the messages are 1 to n, each once. */
function assertNumbers(messages, n) {
  const numbers = messages.map(({ data }) => Number(data));
  assertConsecutive(numbers);
  assert.deepEqual([numbers[0], numbers.length], [1, n]);
}

// Chromium complains of each stream that breaks, and that the world has no icon.
const expected = /net::ERR_|404/;

await Promise.all([
  // With no-store its requests are those of an EventSource, which is told ids alone.
  ...[
    ["fetch-plain", "", {}],
    ["fetch-no-store", "?heartbeat=comment", { cache: "no-store" }],
  ].map(([topic, query, options]) => inBrowser(`has events only: ${topic}`, { expected }, async (context) => {
    const page = await subscribe(context, `events/${topic}${query}`, options);
    await page.waitForTimeout(1_300); // two heartbeats
    await publish("/" + topic, "one\ntwo");
    await publish(`/${topic}?type=price`, "é😀");
    await page.waitForTimeout(1_300);
    await publish(`/${topic}?id=last`, "three");
    const got = (await messages(page, 3)).map(({ event, data }) => [event, data]);
    assert.deepEqual(got, [["", "one\ntwo"], ["price", "é😀"], ["", "three"]]);
    assert.deepEqual(await seen(page).then(({ opened, errors }) => [opened, errors]), [1, 0]);
  })),
  inBrowser("is ended by the server, comes back and has missed nothing", { expected }, async (context) => {
    const topic = "fetch-ended", n = 60;
    const page = await subscribe(context, "events/" + topic);
    for (let i = 1; i <= n; i++) {
      await publish("/" + topic, String(i));
      if (i % 20 === 10) {
        await messages(page, i - 5);
        const answer = await fetch(new URL("/admin/subscriptions?topic=" + topic, base), { method: "DELETE" });
        assert.ok(answer.ok, String(answer.status));
      }
    }
    const got = await messages(page, n + 3);
    assertNumbers(got.filter(({ event }) => event === ""), n);
    // The library passes on events of all types, also why a stream ends.
    assert.deepEqual(got.filter(({ event }) => event !== "").map(({ event }) => event), Array(3).fill("tidewire.error"));
    assert.equal((await seen(page)).opened, 4);
    assert.deepEqual(page.ids.map((id) => id !== ""), [false, true, true, true]);
  }),
  inBrowser("is cut on the way again and again, and has missed nothing", { expected }, async (context) => {
    const topic = "fetch-cut", n = 60;
    const page = await subscribe(context, `cut/events/${topic}?since=earliest`); // before its first event it has no id to go on from
    for (let i = 1; i <= n; i++) {
      await publish("/" + topic, String(i));
      await page.waitForTimeout(30);
    }
    assertNumbers(await messages(page, n), n);
    const { opened, errors } = await seen(page);
    assert.ok(opened > 3 && errors >= opened - 1, `${opened} streams, ${errors} errors`);
    const resumed = page.ids.filter((id) => id !== "");
    assert.ok(resumed.length > 1, page.ids.join());
    assert.deepEqual(page.ids.slice(-resumed.length), resumed);
  }),
]);

await browser.close();

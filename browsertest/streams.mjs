// EventSources in the pages of headless Chromium, and all that happens to them.

import { setInterval } from "node:timers/promises";
import { chromium } from "playwright-core";
import { assert, check, publish } from "./checks.mjs";

/**
 * Starts Chromium, in which every name is this machine, and certificates with some keys
 * are as good as any that a browser trusts.
 */
export const launch = (executablePath, keys, ...more) => chromium.launch({
  executablePath,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * 127.0.0.1", "--ignore-certificate-errors-spki-list=" + keys, ...more,
  ],
});

/** Runs a check with a browser profile of its own; its name makes a topic. */
export function inBrowser(browser, name, body) {
  return check(name, async () => {
    await withContext(browser, (context) => body(context, name.replaceAll(/\W+/g, "-")));
  });
}

/** Runs body with a browser profile of its own. */
export async function withContext(browser, body) {
  const context = await browser.newContext();
  try {
    context.setDefaultTimeout(10_000);
    await context.addInitScript(listening);
    await body(context);
  } finally {
    await context.close();
  }
}

/** What each page has: listen opens an EventSource, and streams has what happens to all of them. */
function listening() {
  window.streams = [];
  window.sources = [];
  window.listen = (url, options) => {
    const source = new EventSource(url, options);
    const seen = { opened: 0, errors: [], numbers: [], ids: [], problems: [], gaps: [] };
    source.onopen = () => seen.opened++;
    source.onerror = () => seen.errors.push(source.readyState);
    source.onmessage = ({ data, lastEventId }) => {
      seen.numbers.push(Number(data));
      seen.ids.push(lastEventId);
    };
    source.addEventListener("tidewire.error", ({ data }) => seen.problems.push(JSON.parse(data)));
    source.addEventListener("tidewire.gap", ({ data }) => seen.gaps.push(JSON.parse(data)));
    window.sources.push(source);
    return window.streams.push(seen) - 1;
  };
}

/**
 * Publishes 1, 2, 3 and so on for as long as body runs, and then has each stream come to the
 * last one. None may miss a number, or see one twice.
 */
export async function publishing(page, topic, headers, body) {
  const control = new AbortController();
  let n = 0;
  const published = (async () => {
    for await (const _ of setInterval(10)) {
      if (control.signal.aborted) return;
      await publish("/" + topic, String(++n), "text/plain", headers);
    }
  })();
  const indexes = await Promise.race([body(), published]).finally(() => control.abort());
  await published;
  for (const index of indexes) {
    await until(page, index, `${n} came`, (s, n) => s.numbers.at(-1) === n, n);
    const { numbers, gaps } = await stream(page, index);
    assertWhole(numbers);
    assert.deepEqual(gaps, []);
  }
}

/** Fails unless each number is there, once. */
function assertWhole(numbers) {
  const at = numbers.findIndex((n, i) => n !== numbers[0] + i);
  assert.ok(at < 0, `after ${numbers.slice(Math.max(0, at - 3), at)} came ${numbers.slice(at, at + 3)}`);
}

/** Opens an EventSource in a page, and returns its index there. */
export const listen = (page, url, withCredentials = false) => page.evaluate(([url, withCredentials]) => {
  return window.listen(url, { withCredentials });
}, [url, withCredentials]);

/** Closes an EventSource. */
export const close = (page, index) => page.evaluate((index) => window.sources[index].close(), index);

/** What has happened to an EventSource. */
export const stream = (page, index) => page.evaluate((index) => window.streams[index], index);

/** Waits until what has happened to an EventSource is enough. */
export async function until(page, index, what, enough, arg, timeout) {
  try {
    await page.waitForFunction(`(${enough})(window.streams[${index}], ${JSON.stringify(arg)})`, undefined, { polling: 20, timeout });
  } catch (e) {
    throw new Error(`${what}: it did not come to that: ${JSON.stringify(await stream(page, index))}: ${e.message}`);
  }
}

export const isOpen = (page, index) => until(page, index, "open", (s) => s.opened > 0);

/** Waits for some more numbers. */
export async function received(page, index, more) {
  const { numbers } = await stream(page, index);
  await until(page, index, `${more} more numbers`, (s, n) => s.numbers.length >= n, numbers.length + more);
}

/** Waits until an EventSource has failed for good: that is all that a page can see. */
export async function fails(page, index) {
  await until(page, index, "failed for good", (s) => s.errors.at(-1) === 2);
  const { opened, numbers, problems } = await stream(page, index);
  assert.deepEqual({ opened, numbers, problems }, { opened: 0, numbers: [], problems: [] });
}

/** What a problem is, of all that its type says. */
export const problem = (type) => "urn:tidewire:problem:" + type;

/**
 * Collects what a page sent to the hub, and the answers, those that the page may not see too:
 * method, url, type, cookies that went with it, status, protocol and connection.
 */
export async function answers(context, page) {
  const cdp = await context.newCDPSession(page);
  const all = new Map();
  const note = (id, more) => all.set(id, { ...all.get(id), ...more });
  cdp.on("Network.requestWillBeSent", ({ requestId, type, request: { method, url } }) => note(requestId, { type, method, url }));
  cdp.on("Network.requestWillBeSentExtraInfo", ({ requestId, associatedCookies }) => {
    note(requestId, { cookies: associatedCookies.filter((c) => c.blockedReasons.length === 0).map((c) => c.cookie.name) });
  });
  cdp.on("Network.responseReceivedExtraInfo", ({ requestId, statusCode }) => note(requestId, { status: statusCode }));
  cdp.on("Network.responseReceived", ({ requestId, response: { protocol, connectionId } }) => note(requestId, { protocol, connection: connectionId }));
  await cdp.send("Network.enable");
  return () => [...all.values()].filter(({ url, status }) => url?.includes("/events") && status);
}

/** Waits until there is an answer of a kind. */
export async function answer(all, what, matches) {
  const deadline = Date.now() + 10_000;
  for await (const _ of setInterval(20)) {
    const found = all().find(matches);
    if (found) return found;
    assert.ok(Date.now() < deadline, `no answer ${what} among ${JSON.stringify(all())}`);
  }
}

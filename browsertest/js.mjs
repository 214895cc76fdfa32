// The browser client in pages of headless Chromium: many tabs, and one connection.
//
//   node js.mjs URL CHROMIUM

import { setInterval } from "node:timers/promises";
import { assert, base, check, publish } from "./checks.mjs";
import { launch } from "./streams.mjs";

const browser = await launch(process.argv[3], "");
const secure = base;
const plain = base.replace("127.0.0.1", "shop.test");

/** Runs a check with a browser profile of its own; its name makes a topic. */
function inBrowser(name, body) {
  return check(name, async () => {
    const context = await browser.newContext();
    context.setDefaultTimeout(60_000);
    try {
      await body(context, name.replaceAll(/\W+/g, "-"));
    } finally {
      await context.close();
    }
  });
}

/** Opens a tab with a source, and waits until that is open. */
async function open(context, origin, path, options = {}, prepare = async () => {}) {
  const page = await context.newPage();
  await prepare(page);
  await page.goto(origin);
  await connect(page, path, options);
  return page;
}

/** Makes a source in a page: window.seen has what happens to it. */
async function connect(page, path, options = {}) {
  await page.evaluate(async ([path, { token, ...options }]) => {
    const { TidewireSource } = await import("/client/index.js");
    let tokens = 0;
    if (token) options.getToken = async () => `${token}-${++tokens}`;
    const seen = window.seen = { opened: 0, errors: [], numbers: [], ids: [], gaps: [], states: [] };
    options.onState = (state) => seen.states.push(state);
    options.onGap = (gap) => seen.gaps.push(gap);
    const source = window.source = new TidewireSource(path, options);
    source.onopen = () => seen.opened++;
    source.onerror = () => seen.errors.push(source.readyState);
    source.onmessage = ({ data, lastEventId }) => {
      seen.numbers.push(Number(data));
      seen.ids.push(lastEventId);
    };
  }, [path, options]);
  await page.waitForFunction(() => window.source.readyState === 1, undefined, { polling: 10 });
}

const seen = (page) => page.evaluate(() => window.seen);

/** Hides a page, or shows it, as far as its scripts can tell. */
const hide = (page, hidden) => page.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);

/** Has a page count in window.fetched what it asks the server for. */
const counted = (page) => page.addInitScript(() => {
  const { fetch } = window;
  window.fetched = 0;
  window.fetch = (...args) => (window.fetched++, fetch(...args));
});
const role = (page) => page.evaluate(() => window.source.state.role);

async function leaderOf(pages) {
  const deadline = Date.now() + 10_000;
  for await (const _ of setInterval(10)) {
    for (const page of pages) if (await role(page) === "leader") return page;
    assert.ok(Date.now() < deadline, "nobody leads");
  }
}

async function reaches(page, n) {
  try {
    await page.waitForFunction((n) => window.seen.numbers.at(-1) === n, n, { polling: 20 });
  } catch (e) {
    throw new Error(`${n} did not come: ${JSON.stringify(await seen(page))}: ${e.message}`);
  }
}

/** The streams that the hub has of a topic. */
async function subscriptions(topic) {
  const response = await fetch(new URL(`/admin/subscriptions?topic=${topic}`, base));
  return (await response.json()).count;
}

async function subscriptionsAre(topic, want) {
  const deadline = Date.now() + 10_000;
  for await (const _ of setInterval(20)) {
    const got = await subscriptions(topic);
    if (got === want) return;
    assert.ok(Date.now() < deadline, `got ${got} subscriptions, want ${want}`);
  }
}

/** Publishes 1, 2, 3 and so on, each 5 ms or so, while body runs; returns the last one. */
async function publishing(topic, body) {
  const control = new AbortController();
  let n = 0;
  const published = (async () => {
    for await (const _ of setInterval(5)) {
      if (control.signal.aborted) return;
      await publish("/" + topic, String(++n));
    }
  })();
  await Promise.race([body(() => n), published]).finally(() => control.abort());
  await published;
  return n;
}

/** Waits for more events to be published. */
async function more(count, n) {
  const until = count() + n;
  for await (const _ of setInterval(5)) if (count() >= until) return;
}

/** Fails unless a page has had each number from first to last, once. */
async function whole(page, first, last) {
  await reaches(page, last);
  const { numbers, gaps } = await seen(page);
  const at = numbers.findIndex((n, i) => n !== first + i);
  assert.ok(at < 0, `place ${at}: after ${numbers.slice(Math.max(0, at - 3), at)} came ${numbers.slice(at, at + 5)}`);
  assert.equal(numbers.length, last - first + 1);
  assert.deepEqual(gaps, []);
}

await inBrowser("eight tabs over HTTP/1.1 are all live with one connection", async (context, topic) => {
  const tabs = [];
  for (let i = 0; i < 8; i++) tabs.push(await open(context, secure, "/events/" + topic, { share: true }));
  await subscriptionsAre(topic, 1);
  const last = await publishing(topic, (count) => more(count, 50));
  for (const tab of tabs) await whole(tab, 1, last);
  assert.deepEqual((await Promise.all(tabs.map(role))).sort(), [...Array(7).fill("follower"), "leader"]);
  await subscriptionsAre(topic, 1);
  for (const tab of tabs) assert.deepEqual([(await seen(tab)).opened, (await seen(tab)).errors], [1, []]);
  for (const tab of tabs) await tab.evaluate(() => window.source.close());
  await subscriptionsAre(topic, 0);
});

await inBrowser("the leading tab is killed five times, and nobody misses or repeats anything", async (context, topic) => {
  let tabs = [];
  for (let i = 0; i < 8; i++) tabs.push(await open(context, secure, "/events/" + topic, { share: true }));
  const last = await publishing(topic, async (count) => {
    for (let kill = 0; kill < 5; kill++) {
      await more(count, 30);
      const leader = await leaderOf(tabs);
      if (kill % 2) {
        await leader.close();
      } else {
        const crashed = leader.waitForEvent("crash");
        const cdp = await context.newCDPSession(leader);
        cdp.send("Page.crash").catch(() => {});
        await crashed;
      }
      tabs = tabs.filter((tab) => tab !== leader);
      await leaderOf(tabs);
    }
    await more(count, 30);
  });
  assert.equal(tabs.length, 3);
  for (const tab of tabs) await whole(tab, 1, last);
  await subscriptionsAre(topic, 1);
});

await inBrowser("a leader that is cut goes on for all", async (context, topic) => {
  const tabs = [];
  for (let i = 0; i < 3; i++) tabs.push(await open(context, secure, "/events/" + topic, { share: true }));
  const last = await publishing(topic, async (count) => {
    for (let cut = 0; cut < 3; cut++) {
      await more(count, 30);
      const response = await fetch(new URL("/admin/subscriptions?topic=" + topic, base), { method: "DELETE" });
      assert.equal(response.status, 200);
    }
    await more(count, 30);
  });
  for (const tab of tabs) await whole(tab, 1, last);
  for (const tab of tabs) assert.ok((await seen(tab)).errors.length > 0);
});

await inBrowser("a tab that loses messages gets them again, and the others none twice", async (context, topic) => {
  const lossy = (page) => page.addInitScript(() => {
    window.lost = 0;
    window.BroadcastChannel = class extends BroadcastChannel {
      set onmessage(listener) {
        let n = 0;
        super.onmessage = (event) => event.data.all?.note.kind === "event" && ++n % 25 === 0 ? window.lost++ : listener(event);
      }
    };
  });
  const tabs = [];
  for (const prepare of [undefined, undefined, lossy]) tabs.push(await open(context, secure, "/events/" + topic, { share: true }, prepare));
  const last = await publishing(topic, (count) => more(count, 100));
  for (let n = 0; n < 25; n++) await publish("/" + topic, String(last + n + 1)); // the last one is not lost for good
  for (const tab of tabs) await whole(tab, 1, last + 25);
  assert.ok(await tabs[2].evaluate(() => window.lost) > 2);
});

await inBrowser("a leader that is silent for long is deposed", async (context, topic) => {
  const tabs = [];
  for (let i = 0; i < 3; i++) tabs.push(await open(context, secure, "/events/" + topic, { share: true }, () => context.clock.install()));
  assert.equal(await role(tabs[0]), "leader");
  const last = await publishing(topic, async (count) => {
    await more(count, 20);
    await context.clock.fastForward(160_000); // in all tabs: both of the others take the lock
    await leaderOf(tabs.slice(1));
    await more(count, 30);
  });
  for (const tab of tabs) await whole(tab, 1, last);
  assert.deepEqual((await Promise.all(tabs.map(role))).sort(), ["follower", "follower", "leader"]);
  await subscriptionsAre(topic, 1);
});

for (const [name, origin, options] of [
  ["a tab that comes later with a beginning of its own has everything, once", secure, { share: true }],
  ["the same with a worker", plain, { share: true, workerUrl: "/client/worker.js" }],
]) {
  await inBrowser(name, async (context, topic) => {
    for (const n of [-2, -1, 0]) await publish("/" + topic, String(n));
    const first = await open(context, origin, "/events/" + topic, options);
    const late = [];
    const last = await publishing(topic, async (count) => {
      await more(count, 30);
      late.push(await open(context, origin, `/events/${topic}?since=earliest`, options));
      await more(count, 30);
      const { ids } = await seen(first);
      late.push(await open(context, origin, "/events/" + topic, { ...options, lastEventId: ids[9] }));
      await more(count, 30);
    });
    await whole(first, 1, last);
    await whole(late[0], -2, last);
    await whole(late[1], 11, last);
    await subscriptionsAre(topic, 1);
  });
}

await inBrowser("a SharedWorker is the connection of eight tabs on plain http", async (context, topic) => {
  const options = { share: true, workerUrl: "/client/worker.js", token: "t" };
  let tabs = [];
  for (let i = 0; i < 8; i++) tabs.push(await open(context, plain, "/events/" + topic, options));
  assert.deepEqual(await tabs[0].evaluate(() => [isSecureContext, navigator.locks === undefined]), [false, true]);
  assert.deepEqual(await Promise.all(tabs.map(role)), Array(8).fill("worker"));
  await subscriptionsAre(topic, 1);
  const last = await publishing(topic, async (count) => {
    for (let i = 0; i < 5; i++) {
      await more(count, 20);
      await tabs.shift().close();
    }
    await more(count, 20);
  });
  for (const tab of tabs) await whole(tab, 1, last);
  await subscriptionsAre(topic, 1);
  const tokens = await (await fetch(new URL("/tokens", base))).json();
  assert.deepEqual([...new Set(tokens)], ["Bearer t-1"]);
  for (const tab of tabs) await tab.evaluate(() => window.source.close());
  await subscriptionsAre(topic, 0);
});

await inBrowser("where the worker's file is missing, tabs share without", async (context, topic) => {
  const options = { share: true, workerUrl: "/client/nothing.js" };
  const tabs = [await open(context, secure, "/events/" + topic, options), await open(context, secure, "/events/" + topic, options)];
  assert.deepEqual((await Promise.all(tabs.map(role))).sort(), ["follower", "leader"]);
  const alone = await open(context, plain, "/events/" + topic, options);
  assert.equal(await role(alone), "alone");
  await subscriptionsAre(topic, 2);
});

await inBrowser("a source that is closed before the worker's file is found missing has no connection", async (context, topic) => {
  const page = await context.newPage();
  await page.goto(plain);
  const options = { share: true, workerUrl: "/client/nothing.js" };
  await page.evaluate(async ([path, options]) => {
    const { TidewireSource } = await import("/client/index.js");
    new TidewireSource(path, options).close();
  }, ["/events/" + topic, options]);
  await connect(page, "/events/" + topic, options); // and both have been told of the file
  await subscriptionsAre(topic, 1);
  await page.evaluate(() => window.source.close());
  await subscriptionsAre(topic, 0);
});

await inBrowser("a worker that says nothing is given up", async (context, topic) => {
  await context.clock.install();
  const page = await context.newPage();
  await page.goto(plain);
  const connected = connect(page, "/events/" + topic, { share: true, workerUrl: "/client/mute.js" });
  await page.waitForFunction(() => window.source, undefined, { polling: 10 });
  await context.clock.fastForward(6_000);
  await connected;
  await subscriptionsAre(topic, 1);
  await page.evaluate(() => window.source.close());
  await subscriptionsAre(topic, 0);
});

await inBrowser("hidden pages pause, and come back without loss", async (context, topic) => {
  for (const [origin, path, options] of [
    [secure, topic + "-1", {}],
    [secure, topic + "-2", { share: true }],
    [plain, topic + "-3", { share: true, workerUrl: "/client/worker.js" }],
  ]) {
    const pages = [];
    for (let i = 0; i < (options.share ? 2 : 1); i++) pages.push(await open(context, origin, "/events/" + path, { ...options, pauseWhenHidden: true }));
    await publish("/" + path, "1");
    for (const page of pages) await reaches(page, 1);
    const [first, ...others] = pages;
    await hide(first, true);
    if (options.share) {
      await publish("/" + path, "2");
      for (const page of pages) await reaches(page, 2);
      await subscriptionsAre(path, 1);
      for (const page of others) await hide(page, true);
    }
    await subscriptionsAre(path, 0);
    const from = options.share ? 3 : 2;
    for (let n = from; n < from + 5; n++) await publish("/" + path, String(n));
    await hide(pages.at(-1), false);
    for (const page of pages) await whole(page, 1, from + 4);
  }
});

for (const [name, origin, options] of [
  ["a page that opens while all others are hidden has events", secure, {}],
  ["the same with a worker that pauses", plain, { workerUrl: "/client/worker.js" }],
]) {
  await inBrowser(name, async (context, topic) => {
    const all = { share: true, pauseWhenHidden: true, ...options };
    await hide(await open(context, origin, "/events/" + topic, all), true);
    await subscriptionsAre(topic, 0);
    const late = await open(context, origin, "/events/" + topic, all);
    await publish("/" + topic, "1");
    await reaches(late, 1);
  });
}

await inBrowser("a page that is kept for the way back has all that it missed, once, of a worker that is new as well", async (context, topic) => {
  const options = { share: true, workerUrl: "/client/worker.js" };
  const passes = (page, type) => page.evaluate((type) => dispatchEvent(new PageTransitionEvent(type, { persisted: true })), type);
  const pages = [await open(context, plain, "/events/" + topic, options), await open(context, plain, "/events/" + topic, options)];
  let n = 0;
  const next = () => publish("/" + topic, String(++n));
  for (const leaving of [pages.slice(1), pages]) {
    await next();
    for (const page of pages) await reaches(page, n);
    for (const page of leaving) await passes(page, "pagehide");
    await subscriptionsAre(topic, leaving === pages ? 0 : 1);
    for (let i = 0; i < 3; i++) await next();
    for (const page of leaving) await passes(page, "pageshow");
    await next();
    for (const page of pages) await whole(page, 1, n);
    await subscriptionsAre(topic, 1);
  }
});

await inBrowser("a hidden leader goes on for a page that is seen, though it asks twice at once", async (context, topic) => {
  const options = { share: true, pauseWhenHidden: true };
  const asking = async (page) => {
    await context.clock.install();
    await page.addInitScript(() => {
      window.asked = 0;
      window.BroadcastChannel = class extends BroadcastChannel {
        postMessage(m) {
          super.postMessage(m);
          if (m.kind === "ask") window.asked++;
        }
      };
    });
  };
  const leader = await open(context, secure, "/events/" + topic, options, asking);
  const other = await open(context, secure, "/events/" + topic, options);
  await leader.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, value: true });
    for (const _ of [1, 2]) document.dispatchEvent(new Event("visibilitychange"));
  });
  await leader.waitForFunction(() => window.asked === 2, undefined, { polling: 10 });
  await context.clock.fastForward(600); // no answer is waited for any more
  await publish("/" + topic, "1");
  await reaches(other, 1);
  assert.ok(!(await seen(leader)).states.some(({ paused }) => paused));
});

await inBrowser("a page that is slow to answer is not taken for one that is hidden", async (context, topic) => {
  const options = { share: true, pauseWhenHidden: true };
  const leader = await open(context, secure, "/events/" + topic, options, () => context.clock.install());
  const other = await open(context, secure, "/events/" + topic, options, (page) => page.addInitScript(() => {
    window.BroadcastChannel = class extends BroadcastChannel {
      set onmessage(listener) {
        super.onmessage = (event) => (event.data.kind === "ask" ? window.asked = true : listener(event));
      }
    };
  }));
  await hide(leader, true);
  await other.waitForFunction(() => window.asked, undefined, { polling: 10 });
  await context.clock.fastForward(600); // no answer is waited for any more
  await publish("/" + topic, "1");
  await reaches(other, 1);
  assert.ok(!(await seen(leader)).states.some(({ paused }) => paused));
});

await inBrowser("a leader that is closed while it asks has no connection afterwards", async (context, topic) => {
  const options = { share: true, pauseWhenHidden: true };
  const leader = await open(context, secure, "/events/" + topic, options, async (page) => {
    await context.clock.install();
    await counted(page);
    await page.addInitScript(() => {
      window.answers = 0;
      window.BroadcastChannel = class extends BroadcastChannel {
        set onmessage(listener) {
          super.onmessage = (event) => {
            listener(event);
            if (event.data.kind === "here") window.answers++;
          };
        }
      };
    });
  });
  const other = await open(context, secure, "/events/" + topic, options);
  await open(context, secure, "/events/" + topic, options, (page) => page.addInitScript(() => {
    window.BroadcastChannel = class extends BroadcastChannel {
      set onmessage(listener) {
        super.onmessage = (event) => event.data.kind !== "ask" && listener(event);
      }
    };
  }));
  await hide(leader, true);
  await leader.waitForFunction(() => window.answers === 1, undefined, { polling: 10 });
  await leader.evaluate(() => window.source.close());
  const fetched = await leader.evaluate(() => window.fetched);
  await context.clock.fastForward(600);
  await publish("/" + topic, "1");
  await reaches(other, 1);
  assert.equal(await leader.evaluate(() => window.fetched), fetched);
});

await inBrowser("a source that is closed as soon as it leads has no connection", async (context, topic) => {
  const page = await context.newPage();
  await counted(page);
  await page.goto(secure);
  await page.evaluate(async (path) => {
    const { TidewireSource } = await import("/client/index.js");
    const source = window.source = new TidewireSource(path, { share: true, onState: ({ role }) => role === "leader" && source.close() });
  }, "/events/" + topic);
  await page.waitForFunction(() => window.source.readyState === 2, undefined, { polling: 10 });
  await page.evaluate(() => navigator.locks.query()); // all is done that was begun
  await subscriptionsAre(topic, 0);
  await connect(page, "/events/" + topic, { share: true });
  await subscriptionsAre(topic, 1);
});

await inBrowser("a page that may have no locks and no workers has a connection of its own", async (context) => {
  const page = await context.newPage();
  await page.goto(secure);
  await page.evaluate((url) => {
    const script = `import(${JSON.stringify(url)} + "client/index.js").then(({ TidewireSource }) => {
      const options = { share: true, workerUrl: ${JSON.stringify(url)} + "client/worker.js" };
      const source = new TidewireSource("data:text/event-stream,data: 1%0A%0A", { ...options, fallback: false });
      source.onmessage = ({ data }) => parent.postMessage([data, source.state.role], "*");
    }).catch((e) => parent.postMessage(String(e), "*"));`;
    window.onmessage = ({ data }) => { window.got ??= data; };
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script type="module">${script}</script>`;
    document.body.append(frame);
  }, secure);
  await page.waitForFunction(() => window.got, undefined, { polling: 10, timeout: 10_000 });
  assert.deepEqual(await page.evaluate(() => window.got), ["1", "alone"]);
});

await inBrowser("beside EventSource, the same happens", async (context, topic) => {
  const page = await context.newPage();
  await page.goto(secure);
  await page.evaluate(async (path) => {
    const { TidewireSource } = await import("/client/index.js");
    window.logs = [EventSource, TidewireSource].map((Source) => {
      const log = [];
      const source = new Source(path, { withCredentials: false });
      log.push([source.url, source.withCredentials, source.readyState, source instanceof EventTarget,
        Source.CONNECTING, Source.OPEN, Source.CLOSED, source.CONNECTING, source.OPEN, source.CLOSED,
        source.onopen, source.onmessage, source.onerror]);
      const note = (event) => log.push([event.type, source.readyState, event.target === source, event.currentTarget === source,
        event.bubbles, event.cancelable, event.data, event.origin, event.lastEventId, event instanceof MessageEvent]);
      source.onopen = source.onmessage = source.onerror = note;
      source.addEventListener("price", { handleEvent: note });
      source.addEventListener("once", note, { once: true });
      source.addEventListener("tidewire.error", note);
      return log;
    });
  }, "/events/" + topic);
  const both = (length) => page.waitForFunction((length) => window.logs.every((log) => log.length >= length), length, { polling: 10 });
  await both(2);
  await publish("/" + topic, "one\ntwo");
  await publish("/" + topic + "?type=price&id=é", "9.80");
  await publish("/" + topic + "?type=once", "1");
  await publish("/" + topic + "?type=once", "2");
  await publish("/" + topic, "");
  await both(6);
  await fetch(new URL("/admin/subscriptions?topic=" + topic, base), { method: "DELETE" });
  await publish("/" + topic, "while away");
  await both(10);
  await publish("/" + topic + "?end=true", "last");
  await both(13);
  const [native, ours] = await page.evaluate(() => window.logs);
  assert.deepEqual(ours, native);
  assert.deepEqual(ours.slice(1).map(([type, state]) => [type, state]), [
    ["open", 1], ["message", 1], ["price", 1], ["once", 1], ["message", 1],
    ["tidewire.error", 1], ["error", 0], ["open", 1], ["message", 1], ["message", 1], ["error", 0], ["error", 2],
  ]);
});

await inBrowser("it runs in a worker", async (context, topic) => {
  const page = await context.newPage();
  await page.goto(secure);
  await page.evaluate((url) => {
    const code = `import(${JSON.stringify(location.origin)} + "/client/index.js").then(async ({ TidewireSource }) => {
      const source = new TidewireSource(${JSON.stringify(location.origin)} + ${JSON.stringify(url)}, { share: true });
      source.onopen = () => postMessage("open");
      for await (const { data } of source) postMessage(data);
    });`;
    window.got = [];
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
    worker.onmessage = ({ data }) => window.got.push(data);
    worker.onerror = (e) => window.got.push(e.message);
  }, "/events/" + topic);
  await page.waitForFunction(() => window.got.length === 1, undefined, { polling: 10 });
  await publish("/" + topic, "1");
  await page.waitForFunction(() => window.got.length === 2, undefined, { polling: 10 });
  assert.deepEqual(await page.evaluate(() => window.got), ["open", "1"]);
});

await browser.close();

// Pages with cookies and tickets in headless Chromium, over HTTPS on HTTP/2.
//
//	node auth.mjs URL CHROMIUM WORLD
//
// The world is that of TestChromium_Auth, in JSON.

import { setInterval } from "node:timers/promises";
import { assert, base, publish } from "./checks.mjs";
import {
  answer, answers, close, fails, inBrowser, isOpen, launch, listen, problem, publishing, received, stream, until, withContext,
} from "./streams.mjs";

const world = JSON.parse(process.argv[4]);
const bearer = { Authorization: "Bearer " + world.token };
const browser = await launch(process.argv[3], world.keys);

/** Opens a page of a site. */
async function open(context, site) {
  const page = await context.newPage();
  await page.goto(world[site] + "/");
  return page;
}

/** Has a page call its own back end, and returns the answer. */
async function backEnd(page, path, form) {
  const [status, text] = await page.evaluate(async ([path, form]) => {
    const response = await fetch(path, { method: "POST", body: new URLSearchParams(form) });
    return [response.status, await response.text()];
  }, [path, form]);
  assert.ok(status < 300, `${path} was answered ${status} ${text}`);
  return text;
}

const login = (page, form) => backEnd(page, "/login", form);

/** Has a page get a ticket, and returns the URL for it. */
async function ticketURL(page, origin, topic, wish = {}) {
  const text = await backEnd(page, "/ticket", { subject: "alice", topic, wish: JSON.stringify(wish) });
  return `${origin}/events/${topic}?${JSON.parse(text).query}`;
}

/** Asks the hub as an administrator. */
async function asAdmin(method, path) {
  const response = await fetch(new URL(path, base), { method, headers: bearer });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text);
}

/** Waits until the hub has so many streams of a topic. */
async function subscriptions(topic, want) {
  const deadline = Date.now() + 10_000;
  for await (const _ of setInterval(20)) {
    const { count } = await asAdmin("GET", "/admin/subscriptions?topic=" + topic);
    if (count === want) return;
    assert.ok(Date.now() < deadline, `${count} streams of ${topic}, want ${want}`);
  }
}

/** Has something done to the connections of all browsers, and fails if there are none. */
async function control(path) {
  const response = await fetch(new URL(path, world.control), { method: "POST" });
  assert.ok(Number(await response.text()) > 0, "there were no connections for " + path);
}

/** How a stream can be ended by others than the page, and what to do for it. */
const ends = {
  "the connection is reset": () => control("/cut"),
  "an administrator ends the stream": async (topic) => {
    const { ended } = await asAdmin("DELETE", "/admin/subscriptions?topic=" + topic);
    assert.ok(ended > 0, "no stream was ended");
  },
};

/** Has a stream end, and waits until it has come back. */
async function comesBack(page, index, topic, end) {
  const { opened } = await stream(page, index);
  await ends[end](topic);
  await until(page, index, `${end}: it is open again`, (s, n) => s.opened > n, opened);
}

/** Has a stream end again and again while events come. */
const survives = (page, index, topic) => publishing(page, topic, bearer, async () => {
  for (const end of ["the connection is reset", "an administrator ends the stream", "the connection is reset"]) {
    await received(page, index, 5);
    await comesBack(page, index, topic, end);
    await received(page, index, 5);
  }
  return [index];
});

/** How many events a topic has. */
async function count(topic) {
  const response = await fetch(new URL("/events/" + topic, base), { method: "HEAD", headers: bearer });
  assert.equal(response.status, 200);
  return Number(response.headers.get("Tidewire-Count"));
}

await inBrowser(browser, "cookie, same origin: a stream outlives its connections", async (context, topic) => {
  const page = await open(context, "shop");
  await login(page, { subject: "alice", topic });
  const all = await answers(context, page);
  const index = await listen(page, "/events/" + topic);
  await isOpen(page, index);
  await survives(page, index, topic);
  for (const { status, protocol, cookies } of all()) {
    assert.deepEqual({ status, protocol, cookies }, { status: 200, protocol: "h2", cookies: ["tidewire"] });
  }
});

await inBrowser(browser, "cookie, other origin of the site: with credentials only", async (context, topic) => {
  const page = await open(context, "app");
  await login(page, { subject: "alice", topic, domain: "tide.test" });
  const without = await listen(page, `${world.hub}/events/${topic}`);
  await fails(page, without);
  const index = await listen(page, `${world.hub}/events/${topic}`, true);
  await isOpen(page, index);
  await survives(page, index, topic);
});

/** Takes a ticket to another browser, which has none of the cookies. */
async function isOfNoUseToAThief(url, site) {
  await withContext(browser, async (context) => {
    const page = await open(context, site);
    for (const withCredentials of [true, false]) {
      const index = await listen(page, url + "&since=earliest", withCredentials);
      // Either the hub has told it before, or does so now.
      await until(page, index, "sent away", (s) => s.problems.length > 0 || s.errors.at(-1) === 2);
      const { numbers, problems } = await stream(page, index);
      assert.deepEqual([numbers, problems.map((p) => p.type)], [[], withCredentials ? [problem("ticket-spent")] : []]);
      await close(page, index);
    }
  });
}

for (const [name, site, origin, withCredentials, cookie] of [
  ["ticket, same origin: it comes back with a strict cookie", "shop", "", false, { sameSite: "Strict", partitioned: false }],
  ["ticket, same site: it comes back with a strict cookie", "app", world.hub, true, { sameSite: "Strict", partitioned: false }],
  ["ticket, other site: it comes back with a partitioned cookie", "friend", world.hub, true, { sameSite: "None", partitioned: true }],
]) {
  await inBrowser(browser, name, async (context, topic) => {
    const page = await open(context, site);
    const url = await ticketURL(page, origin, topic);
    const index = await listen(page, url, withCredentials);
    await isOpen(page, index);
    await survives(page, index, topic);
    const proofs = (await context.cookies()).filter(({ name }) => name.startsWith("tw-"));
    assert.deepEqual(proofs.map(({ path, httpOnly, secure, sameSite, partitionKey }) => {
      return { path, httpOnly, secure, sameSite, partitioned: partitionKey !== undefined };
    }), [{ path: "/events", httpOnly: true, secure: true, ...cookie }]);
    await isOfNoUseToAThief(new URL(url, page.url()).href, site);
    await comesBack(page, index, topic, "the connection is reset");
  });
}

await inBrowser(browser, "ticket for several uses: it comes back without cookies, one stream at a time", async (context, topic) => {
  const page = await open(context, "friend");
  const url = await ticketURL(page, world.hub, topic, { reuse: true });
  const index = await listen(page, url);
  await isOpen(page, index);
  await survives(page, index, topic);
  assert.deepEqual(await context.cookies(), []);

  await page.evaluate((index) => {
    const source = window.sources[index];
    source.addEventListener("tidewire.error", () => source.close());
  }, index);
  const { problems: before } = await stream(page, index);
  const tab = await open(context, "friend");
  const second = await listen(tab, url);
  await isOpen(tab, second);
  await until(page, index, "the first is told", (s, n) => s.problems.length > n, before.length);
  const { problems } = await stream(page, index);
  assert.deepEqual(problems.slice(before.length).map((p) => p.type), [problem("ticket-spent")]);
  await publish("/" + topic, "-1", "text/plain", bearer);
  await until(tab, second, "live", (s) => s.numbers.at(-1) === -1);
});

/** What a page does that has a stream for ever: any end that is explained costs another ticket. */
function followTopic([origin, topic, wish]) {
  const seen = { opened: 0, errors: [], numbers: [], problems: [], gaps: [] };
  window.streams.push(seen);
  const next = async (lastEventId) => {
    const response = await fetch("/ticket", { method: "POST", body: new URLSearchParams({ subject: "alice", topic, wish: JSON.stringify(wish) }) });
    const { query } = await response.json();
    const from = lastEventId ? "&last_event_id=" + encodeURIComponent(lastEventId) : "";
    const source = new EventSource(`${origin}/events/${topic}?${query}${from}`, { withCredentials: true });
    source.onopen = () => seen.opened++;
    source.onerror = () => seen.errors.push(source.readyState);
    source.onmessage = ({ data }) => seen.numbers.push(Number(data));
    source.addEventListener("tidewire.gap", ({ data }) => seen.gaps.push(JSON.parse(data)));
    source.addEventListener("tidewire.error", ({ data, lastEventId: id }) => {
      source.close();
      seen.problems.push(JSON.parse(data).type);
      next(id || lastEventId);
    });
  };
  return next().then(() => window.streams.length - 1);
}

await inBrowser(browser, "ticket: a first answer that is lost on its way costs another ticket", async (context, topic) => {
  const page = await open(context, "app");
  await listen(page, await ticketURL(page, world.hub, "another"), true); // so that there is a connection
  await isOpen(page, 0);
  await control("/swallow");
  const index = await page.evaluate(followTopic, [world.hub, topic, {}]);
  await subscriptions(topic, 1);
  await control("/cut");
  await until(page, index, "open with another", (s) => s.opened === 2);
  assert.deepEqual((await stream(page, index)).problems, [problem("ticket-spent")]);
  await publish("/" + topic, "1", "text/plain", bearer);
  await until(page, index, "live", (s) => s.numbers.length === 1);
});

await inBrowser(browser, "twelve streams and ordinary requests share one connection of HTTP/2", async (context, topic) => {
  const page = await open(context, "app");
  await login(page, { subject: "alice", topic, domain: "tide.test" });
  const all = await answers(context, page);
  const url = `${world.hub}/events/${topic}`;
  const indexes = await Promise.all(Array.from({ length: 12 }, () => listen(page, url, true)));
  for (const index of indexes) await isOpen(page, index);
  await subscriptions(topic, 12);
  const statuses = await page.evaluate((url) => Promise.all(Array.from({ length: 30 }, async () => {
    const { status } = await fetch(url, { method: "HEAD", credentials: "include" });
    return status;
  })), url);
  assert.deepEqual(new Set(statuses), new Set([200]));
  await publishing(page, topic, bearer, async () => {
    for (const index of indexes) await received(page, index, 20);
    return indexes;
  });
  for (const index of indexes) assert.deepEqual((await stream(page, index)).errors, []);
  assert.equal(all().length, 42);
  assert.deepEqual(new Set(all().map(({ protocol }) => protocol)), new Set(["h2"]));
  assert.equal(new Set(all().map(({ connection }) => connection)).size, 1);
});

// Of these none has connections cut, which all pages share.
await Promise.all([
  inBrowser(browser, "cookie: an allowed page can publish, others cannot, nor can they subscribe", async (context, topic) => {
    const page = await open(context, "app");
    await login(page, { subject: "alice", topic, domain: "tide.test" });
    const url = `${world.hub}/events/${topic}`;
    const post = (page) => page.evaluate(async (url) => {
      const response = await fetch(url, { method: "POST", body: "1", credentials: "include" });
      return response.status;
    }, url);
    assert.equal(await post(page), 201);
    assert.equal(await count(topic), 1);

    for (const site of ["evil", "stranger"]) {
      const bad = await open(context, site);
      const all = await answers(context, bad);
      const cookies = site === "evil" ? ["tidewire"] : []; // which is Strict, and goes to all of its site
      let seen = 0;
      const isRefused = async (what) => {
        const a = await answer(() => all().slice(seen), what, () => true);
        assert.deepEqual([what, a.status, a.cookies], [what, 403, cookies]);
        seen = all().length;
      };

      await assert.rejects(post(bad), /Failed to fetch/);
      await isRefused("to a fetch");
      await bad.evaluate((url) => fetch(url, { method: "POST", body: "forged", mode: "no-cors", credentials: "include" }), url);
      await isRefused("to a no-cors fetch");
      await fails(bad, await listen(bad, url + "?since=earliest", true));
      await isRefused("to an EventSource");

      await bad.evaluate((url) => {
        const form = document.createElement("form");
        Object.assign(form, { action: url, method: "post", enctype: "text/plain" });
        form.append(Object.assign(document.createElement("input"), { name: "forged", value: "1" }));
        document.body.append(form);
        form.submit();
      }, url);
      await isRefused("to a form");
      await bad.getByText("allow that origin in its configuration").waitFor();
    }
    assert.equal(await count(topic), 1);
  }),

  ...[["shop", ""], ["friend", world.hub]].map(([site, origin]) => {
    return inBrowser(browser, `ticket: a page of ${site} goes on with another when one expires, and misses nothing`, async (context, topic) => {
      const page = await open(context, site);
      await publishing(page, topic, bearer, async () => {
        const index = await page.evaluate(followTopic, [origin, topic, { expires_in: 2 }]);
        await until(page, index, "two tickets expired", (s) => s.problems.length >= 2);
        await received(page, index, 5);
        return [index];
      });
      const { problems } = await stream(page, 0);
      assert.deepEqual(new Set(problems), new Set([problem("token-expired")]));
    });
  }),

  inBrowser(browser, "cookie: the same EventSource goes on when a page renews a token that expired", async (context, topic) => {
    const page = await open(context, "shop");
    await login(page, { subject: "alice", topic, life: 1.5 });
    await publishing(page, topic, bearer, async () => {
      const index = await listen(page, "/events/" + topic);
      await until(page, index, "expired", (s) => s.problems.length > 0);
      await login(page, { subject: "alice", topic });
      await received(page, index, 5);
      return [index];
    });
    const { problems } = await stream(page, 0);
    assert.deepEqual(new Set(problems.map((p) => p.type)), new Set([problem("token-expired")]));
  }),
]);

await browser.close();

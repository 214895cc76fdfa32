// The comparison page of the demo in headless Chromium.
//
//   node compare.mjs URL CHROMIUM [DIRECTORY]
//
// With a directory it only writes the picture there.

import { browser, desktop, hasText, headingsAreNested, inBrowser, keepsTo, phone, pictures, textOf } from "./browser.mjs";
import { assert, base } from "./checks.mjs";

const names = ["polling", "long-polling", "sse", "websocket"];
const state = (name) => `[data-way="${name}"] .state`;
const cell = (row, name) => `[data-cell="${row}-${name}"] b`;

/** Opens the page with settings, and waits until all four receive. */
async function open(context, settings = {}) {
  const page = await context.newPage();
  await page.goto(new URL("/compare", base).href);
  await set(page, settings);
  await received(page, 2);
  return page;
}

async function set(page, settings) {
  for (const [name, value] of Object.entries(settings)) {
    const control = page.locator(`[name=${name}]`);
    if (typeof value === "boolean") await control.setChecked(value);
    else await control.selectOption(value);
  }
}

/** Waits until some ways have as many ids as are wanted, and returns those of all. */
async function received(page, wanted, some = names) {
  await page.evaluate(async () => { window.ways = (await import("/demo/compare.js")).all; }); // the page's own
  await page.waitForFunction(([some, wanted]) => {
    return window.ways.every((way) => !some.includes(way.name) || way.ids.length >= wanted);
  }, [some, wanted], { timeout: 25_000 });
  return page.evaluate(() => Object.fromEntries(window.ways.map((way) => [way.name, way.ids])));
}

/** Fails unless all have the same ids in the same order, none twice, and the page says so. */
async function assertSame(page, ids) {
  const shortest = Math.min(...names.map((name) => ids[name].length));
  for (const name of names) {
    assert.deepEqual(ids[name].slice(0, shortest), ids.sse.slice(0, shortest), name);
    assert.equal(new Set(ids[name]).size, ids[name].length, `${name} repeats`);
    for (const row of ["missed", "repeated"]) assert.equal(await textOf(page, cell(row, name)), "0", `${name} ${row}`);
  }
}

/** Waits until a number that the page shows is within bounds. */
function hasNumber(page, row, name, least, most) {
  return page.waitForFunction(([selector, least, most]) => {
    const shown = Number(document.querySelector(selector).innerText);
    return shown >= least && shown <= most;
  }, [cell(row, name), least, most], { timeout: 20_000 });
}

const reports = /\/demo\/compare\/\w+$/; // and settings

const broken = /^Failed to load resource: net::ERR_/; // the browser's own words for a cut

async function checkAll() {
  await inBrowser("all four receive the same", {}, async (context) => {
    const page = await open(context, { rate: "20", interval: "500" });
    await assertSame(page, await received(page, 60));
    for (const name of names) await hasText(page, cell("median", name), /^(< 1|\d+) ms$/);
    await hasText(page, state("polling"), /^asks every 0.5 s$/);
    await hasText(page, state("long-polling"), /^waits for an answer$/);
    await hasText(page, state("sse"), /^open$/);
    await hasText(page, state("websocket"), /^open$/);
  });

  await inBrowser("all four receive the same over a network that cuts and delays", { expected: broken }, async (context) => {
    const page = await open(context, { rate: "10", interval: "500" });
    await set(page, { cut: true, delay: true });
    for (const name of ["sse", "websocket"]) await hasText(page, state(name), /^cut: comes back in 0.5 s$/);
    await assertSame(page, await received(page, 80));
    for (const name of ["sse", "websocket"]) await hasNumber(page, "requests", name, 0.1, 2);
  });

  await inBrowser("a buffer stalls the stream and lets polls through", {}, async (context) => {
    const page = await open(context, { rate: "4", interval: "1000" });
    await set(page, { buffer: true });
    await hasText(page, state("sse"), /^held back$/);
    await hasText(page, '[data-way="sse"] .behind', /^\d+ behind$/);
    const before = await received(page, 0);
    const after = await received(page, before.polling.length + 8, ["polling", "long-polling", "websocket"]);
    assert.deepEqual(after.sse, before.sse);
    for (const name of ["polling", "long-polling", "websocket"]) assert.ok(!(await textOf(page, state(name))).startsWith("held"), name);
    await hasText(page, cell("worst", "sse"), /^\d\.\d s$/);
    await set(page, { buffer: false });
    await hasText(page, state("sse"), /^open$/);
    await hasText(page, '[data-way="sse"] .behind', /^$/);
    await assertSame(page, await received(page, after.polling.length));
  });

  await inBrowser("a clock that is set, or was asleep, spoils neither latencies nor charts", {}, async (context) => {
    await context.addInitScript(() => {
      const now = performance.now.bind(performance);
      window.slept = 0; // ms
      performance.now = () => now() - window.slept;
    });
    const page = await open(context, { rate: "10", interval: "500" });
    await page.route(reports, async (route) => { // no later one is as quick as the first
      await new Promise((resolve) => { setTimeout(resolve, 200); });
      await route.continue();
    });
    for (const slept of [20_000, -8_000]) {
      await page.evaluate((slept) => { window.slept = slept; }, slept);
      const before = await received(page, 0);
      await received(page, before.sse.length + 60);
      const { median, seen } = await page.evaluate(() => ({
        median: window.ways[2].latency().median,
        seen: Array.from(document.querySelectorAll('[data-way="sse"] .chart .event'), (e) => e.getBoundingClientRect().right)
          .filter((x) => x > document.querySelector('[data-way="sse"] .chart').getBoundingClientRect().left).length,
      }));
      assert.ok(median < 2000, `a median latency of ${median} ms after ${slept} ms`);
      assert.ok(seen > 30, `${seen} events in sight after ${slept} ms`);
    }
  });

  await inBrowser("what a screen reader speaks does not change while nothing new happens", { expected: broken }, async (context) => {
    const page = await open(context, { rate: "10", interval: "500" });
    const spoken = (selector) => page.evaluate((selector) => {
      window.spoken = [];
      new MutationObserver(() => window.spoken.push(document.querySelector(selector).textContent))
        .observe(document.querySelector(selector), { childList: true, characterData: true, subtree: true });
    }, selector);
    await set(page, { buffer: true });
    await hasText(page, state("sse"), /^held back/);
    await spoken(state("sse"));
    const before = await received(page, 0);
    await received(page, before.websocket.length + 10, ["websocket"]);
    assert.deepEqual(await page.evaluate(() => window.spoken), []);

    await spoken("#problem");
    let failures = 0;
    await page.route(reports, (route) => { failures++; return route.abort(); });
    await hasText(page, "#problem", /^The server cannot be reached.$/);
    const enough = failures + 2;
    while (failures < enough) await page.waitForRequest(reports);
    assert.deepEqual(await page.evaluate(() => window.spoken), ["The server cannot be reached."]);
  });

  await inBrowser("rate and interval show in what it costs", {}, async (context) => {
    const page = await open(context, { rate: "1", interval: "500" });
    await hasNumber(page, "requests", "polling", 1.5, 2.5);
    await hasNumber(page, "requests", "long-polling", 0.5, 1.5);
    await set(page, { rate: "10", interval: "5000" });
    await hasNumber(page, "requests", "polling", 0, 0.5);
    await hasNumber(page, "requests", "long-polling", 5, 11);
    for (const name of ["sse", "websocket"]) {
      await hasNumber(page, "requests", name, 0, 0);
      await hasNumber(page, "held", name, 0.9, 1.1);
      await hasText(page, cell("bytes", name), /^[1-9]/);
    }
    await hasNumber(page, "held", "polling", 0, 0.3);
    assert.match(await page.locator('[data-cell="requests-polling"] path').getAttribute("d"), /^M.*z$/);
  });

  await inBrowser("a WebSocket that is refused is not available", { expected: /^WebSocket connection to / }, async (context) => {
    await context.addInitScript(() => {
      window.WebSocket = class extends WebSocket {
        constructor(url) { super(url.replace("/websocket?", "/another?")); }
      };
    });
    const page = await context.newPage();
    await page.goto(new URL("/compare", base).href);
    await hasText(page, state("websocket"), /^not available: refused$/);
    await received(page, 2, ["polling", "long-polling", "sse"]);
  });

  await inBrowser("a hidden page holds nothing open, and begins anew", {}, async (context) => {
    const page = await open(context, { rate: "10", interval: "500" });
    await page.evaluate(() => {
      Object.defineProperty(document, "visibilityState", { configurable: true, value: "hidden" });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    for (const name of names) await hasText(page, state(name), /^not running$/);
    await page.evaluate(() => {
      delete document.visibilityState;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await assertSame(page, await received(page, 10));
  });

  await inBrowser("the code that is shown is the code that runs", {}, async (context) => {
    const page = await open(context);
    const code = await (await fetch(new URL("/demo/ways.js", base))).text();
    const shown = await page.locator(".js").allInnerTexts();
    assert.equal(shown.length, 4);
    for (const text of shown) assert.ok(code.includes("export " + text + "\n"), text);
  });

  await inBrowser("the first page leads here, and this one back", {}, async (context) => {
    const page = await context.newPage();
    await page.goto(base);
    await page.getByRole("link", { name: "Compared with polling and WebSocket" }).click();
    await page.getByRole("heading", { level: 1, name: "Four ways of waiting" }).waitFor();
    await page.getByRole("link", { name: "The first examples" }).click();
    await page.getByRole("heading", { level: 1, name: "Server-Sent Events, live" }).waitFor();
  });

  for (const colorScheme of ["light", "dark"]) {
    for (const [kind, options] of Object.entries({ phone, desktop })) {
      await inBrowser(`a ${kind}, ${colorScheme}: nothing is wider than the screen`, { ...options, colorScheme, expected: broken }, async (context) => {
        const page = await open(context, { rate: "50", interval: "500", delay: true, buffer: true, cut: true });
        await received(page, 60, ["polling"]);
        const { width } = options.viewport;
        assert.deepEqual(await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]), [width, width]);
        const wide = await page.locator(".costs td b, .costs th, .state").evaluateAll((all) => {
          return all.filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map((e) => e.outerHTML);
        });
        assert.deepEqual(wide, []);
        await keepsTo(page, colorScheme);
      });
    }
  }

  await inBrowser("headings and names", {}, async (context) => {
    const page = await open(context);
    await headingsAreNested(page);
    const nameless = await page.locator("button, input, select, [tabindex='0'], [role='img']").evaluateAll((all) => all.filter((e) => {
      return !e.labels?.length && !e.textContent.trim() && !e.getAttribute("aria-label");
    }).map((e) => e.outerHTML));
    assert.deepEqual(nameless, []);
  });
}

/** Writes the page down to what it costs, over a network that cuts. */
async function paint() {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, colorScheme: "light", locale: "en-GB" });
  const page = await open(context);
  const bottom = await page.locator(".costs").evaluate((e) => e.getBoundingClientRect().bottom + scrollY);
  await page.setViewportSize({ width: 1200, height: Math.ceil(bottom) + 24 });
  await received(page, 60);
  await set(page, { cut: true });
  const cutAt = (await received(page, 0)).sse.length;
  await received(page, cutAt + 40, ["sse"]);
  await page.mouse.move(0, 0);
  await page.screenshot({ path: `${pictures}/compare.png` });
}

await (pictures ? paint() : checkAll());
await browser.close();

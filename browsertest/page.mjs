// The page of the demo in headless Chromium.
//
//   node page.mjs URL CHROMIUM [DIRECTORY]
//
// With a directory it only writes the pictures there.

import { spawn } from "node:child_process";
import { browser, desktop, hasText, headingsAreNested, inBrowser, keepsTo, phone, pictures, textOf } from "./browser.mjs";
import { assert, assertConsecutive, base, publish } from "./checks.mjs";

/** Opens the page in a new tab, with a section of it on the screen. */
async function open(context, section = "clock") {
  const page = await context.newPage();
  await page.goto(base);
  await see(page, section);
  return page;
}

async function see(page, section) {
  await page.locator(`#${section} .live`).evaluate((live) => live.scrollIntoView({ block: "center", behavior: "instant" }));
  await hasText(page, `#${section} .state`, /^readyState 1, open$/);
}

const numberIn = async (page, selector) => Number(await textOf(page, selector));
const titles = (page) => page.locator("#article-list h3").allInnerTexts();

async function writeArticle(page, title, text) {
  await page.getByLabel("Title").fill(title);
  await page.getByLabel("Text").fill(text);
  await page.getByRole("button", { name: "Publish" }).click();
  await hasText(page, "#article-answer", /^stored as [a-z0-9]+-\d+$/);
}

async function checkAll() {
  await inBrowser("clock ticks", {}, async (context) => {
    const page = await open(context, "clock");
    await hasText(page, "#clock-since", /^\d\d:\d\d:\d\d$/);
    await hasText(page, "#clock-now", /^\d\d:\d\d:\d\d$/);
    const first = await textOf(page, "#clock-now");
    await page.waitForFunction((first) => document.querySelector("#clock-now").innerText !== first, first);
    await hasText(page, "#clock .wire", /^data: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/);
  });

  await inBrowser("counter counts", {}, async (context) => {
    const page = await open(context, "counter");
    await hasText(page, "#count", /^\d+$/);
    const first = await numberIn(page, "#count");
    await page.waitForFunction((first) => Number(document.querySelector("#count").innerText) > first, first);
    await hasText(page, "#counter .wire", /^id: [a-z0-9]+-\d+\ndata: {"count":\d+,"time":"[^"]+"}$/);
  });

  await inBrowser("articles reach all tabs, outlive a reload, and are text", {}, async (context) => {
    const evil = `<img src=x onerror="document.title='stolen'">`;
    const one = await open(context, "articles");
    const two = await open(context, "articles");
    await writeArticle(one, "High water", "At 14:20.\nAt 02:45.");
    await two.locator("#article-list h3", { hasText: "High water" }).waitFor();
    await writeArticle(two, evil, evil);
    await one.locator("#article-list p", { hasText: evil }).waitFor();
    await publish("/demo/articles", "not JSON");
    for (const page of [one, two]) {
      await page.locator("#article-list h3", { hasText: "not JSON" }).waitFor();
      assert.deepEqual(await titles(page), ["not JSON", evil, "High water"]);
      assert.equal(await page.title(), "Tidewire: Server-Sent Events, live");
      assert.equal(await page.locator("#article-list img").count(), 0);
    }
    await one.reload();
    await see(one, "articles");
    await one.locator("#article-list li").nth(2).waitFor();
    assert.deepEqual(await titles(one), ["not JSON", evil, "High water"]);
    assert.equal(await textOf(one, "#article-list li:last-child p"), "At 14:20.\nAt 02:45.");
  });

  await inBrowser("types have listeners of their own", {}, async (context) => {
    const page = await open(context, "types");
    const row = page.locator("#prices tr", { hasText: "mackerel" });
    const press = (name) => page.locator("#types").getByRole("button", { name, exact: true }).click();
    await page.getByLabel("Fish").selectOption("mackerel");
    await press("add");
    await row.getByText("no price yet").waitFor();
    await page.getByLabel("Price a kilogram").fill("6.5");
    await press("price");
    await row.getByText("6.50").waitFor();
    await hasText(page, "#types .wire", /^event: price\nid: [a-z0-9]+-\d+\ndata: mackerel 6.50$/);
    await page.reload();
    await see(page, "types");
    await row.getByText("6.50").waitFor();
    await page.getByLabel("Fish").selectOption("mackerel");
    await press("remove");
    await row.waitFor({ state: "detached" });
  });

  await inBrowser("a cut connection comes back with nothing missed", {}, async (context) => {
    const page = await open(context, "panel");
    const current = (n) => page.locator(`.ready [data-ready="${n}"][aria-current]`).waitFor();
    const received = async () => (await page.locator("#panel-sequence span:not(.mark)").allInnerTexts()).map(Number);
    const reaches = (n) => page.waitForFunction((n) => {
      return Number(document.querySelector("#panel-sequence span:last-child")?.innerText) >= n;
    }, n);
    await current(1);
    await reaches(1);
    const id = await textOf(page, "#panel-id");
    assert.match(id, /^[a-z0-9]+-\d+$/);

    const cutAfter = (await received()).at(-1);
    await page.getByRole("button", { name: "Cut the connection" }).click();
    await current(0);
    await current(1);
    await reaches(cutAfter + 8);
    assert.equal(await page.locator("#panel-sequence .mark").count(), 1);

    // Closed by the page itself, and opened again: the URL hands the last id on.
    const closedAfter = (await received()).at(-1);
    await page.getByRole("button", { name: "Close" }).click();
    await current(2);
    await hasText(page, "#panel .state", /^readyState 2, closed: the button$/);
    for await (const { count } of numbers(closedAfter)) {
      if (count >= closedAfter + 3) break;
    }
    await page.getByRole("button", { name: "Reopen" }).click();
    await current(1);
    await reaches(closedAfter + 4);

    assertConsecutive(await received());
    assert.equal(await numberIn(page, "#panel-missed"), 0);
    assert.equal(await numberIn(page, "#panel-repeated"), 0);
    assert.equal(await numberIn(page, "#panel-opened"), 3);
    assert.equal(await numberIn(page, "#panel-errors"), 1);
    const log = await page.locator("#panel-log li").evaluateAll((all) => {
      return all.map((li) => [...li.children].slice(1).map((e) => e.innerText).join("; "));
    });
    assert.deepEqual(log.map((line) => line.replace(/[a-z0-9]+-\d+/, "ID")), [
      "new EventSource; readyState 0",
      "open; readyState 1",
      "asked the server to cut the connection",
      "error: the browser will come back; readyState 0",
      "open, to go on after ID; readyState 1",
      "close(): the button; readyState 2",
      "new EventSource; readyState 0",
      "open, to go on after ID; readyState 1",
    ]);
    const times = await page.locator("#panel-log time").allInnerTexts();
    for (const time of times) assert.match(time, /^\d\d:\d\d:\d\d\.\d{3}$/);
  });

  await inBrowser("two streams are open at most, and none while the page is hidden", {}, async (context) => {
    await context.addInitScript(() => {
      window.sources = [];
      window.most = 0;
      window.nowOpen = () => window.sources.filter((source) => source.readyState !== 2).length;
      window.EventSource = class extends EventSource {
        constructor(...args) {
          super(...args);
          window.sources.push(this);
          window.most = Math.max(window.most, window.nowOpen());
        }
      };
    });
    // So tall that all examples fit.
    const page = await context.newPage();
    await page.setViewportSize({ width: 1280, height: 5000 });
    await page.goto(base);
    await page.waitForFunction(() => window.nowOpen() === 2);
    for (const section of ["panel", "types", "articles", "counter", "clock"]) {
      await page.locator(`#${section} h2`).click();
      await hasText(page, `#${section} .state`, /^readyState 1, open$/);
    }
    await page.setViewportSize(desktop.viewport);
    for (const section of ["clock", "counter", "articles", "types", "panel"]) await see(page, section);
    assert.equal(await page.evaluate(() => window.most), 2);

    await page.evaluate(() => {
      Object.defineProperty(document, "visibilityState", { configurable: true, value: "hidden" });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    assert.equal(await page.evaluate(() => window.nowOpen()), 0);
    await hasText(page, "#panel .state", /^readyState 2, closed: the page is hidden$/);
    await page.evaluate(() => {
      delete document.visibilityState;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await hasText(page, "#panel .state", /^readyState 1, open$/);
  });

  await inBrowser("the code that is shown is the code that runs", {}, async (context) => {
    const page = await open(context);
    const code = await (await fetch(new URL("/demo/examples.js", base))).text();
    const shown = await page.locator(".js").allInnerTexts();
    assert.equal(shown.length, 5);
    for (const text of shown) {
      for (const part of text.split("\n\n")) assert.ok(code.includes("export " + part + "\n"), part);
    }
  });

  await inBrowser("the curl commands that are shown work", {}, async (context) => {
    const page = await open(context, "panel");
    await page.waitForFunction(() => !document.querySelector("#curl-resume").innerText.includes("…"));
    const commands = await page.locator(".curl").allInnerTexts();
    assert.equal(commands.length, 9);
    for (const command of commands) assert.ok(command.includes(new URL(base).origin), command);
    const [cut, ...others] = commands.sort((a, b) => b.includes("/cut?") - a.includes("/cut?"));
    await Promise.all(others.map((command) => {
      return curlPrints(command, command.includes(" -N ") ? /^data: .+\n\n/m : /^{"id":"[^"]+",.*}$/m);
    }));
    await curlPrints(cut, /^{"cut":\d+}$/m);
  });

  await inBrowser("a browser without EventSource is told", {}, async (context) => {
    await context.addInitScript(() => { delete window.EventSource; });
    const page = await context.newPage();
    await page.goto(base);
    await page.getByRole("alert").getByText("This browser has no EventSource").waitFor();
    await hasText(page, "#clock .state", /^no EventSource in this browser$/);
  });

  await inBrowser("a page with EventSource shows no warning", {}, async (context) => {
    const page = await open(context);
    assert.equal(await page.locator(".warning:visible").count(), 0);
  });

  for (const colorScheme of ["light", "dark"]) {
    await inBrowser(`a phone, ${colorScheme}: nothing is wider than the screen`, { ...phone, colorScheme }, async (context) => {
      const page = await open(context, "articles");
      await writeArticle(page, "long".repeat(30), "word".repeat(250));
      for (const section of ["clock", "counter", "articles", "types", "panel"]) {
        await see(page, section);
        const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.equal(content, 360, `the page with ${section}`);
        assert.equal(screen, 360);
      }
      await keepsTo(page, colorScheme);
    });
  }

  await inBrowser("headings, names and focus", {}, async (context) => {
    const page = await open(context);
    await headingsAreNested(page);
    const nameless = await page.locator("button, input, select, textarea, [tabindex='0']").evaluateAll((all) => all.filter((e) => {
      return !e.labels?.length && !e.textContent.trim() && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby");
    }).map((e) => e.outerHTML));
    assert.deepEqual(nameless, []);
    await page.evaluate(() => scrollTo({ top: 0, behavior: "instant" }));
    await page.keyboard.press("Tab");
    const skip = page.getByRole("link", { name: "Skip to the first example" });
    await skip.and(page.locator(":focus-visible")).waitFor();
    assert.notEqual(await skip.evaluate((e) => getComputedStyle(e).outlineStyle), "none");
  });
}

/** The panel's numbers after one, from the server itself. */
async function* numbers(after) {
  const response = await fetch(new URL("/events/demo/panel?since=earliest", base), { headers: { Accept: "application/x-ndjson" } });
  let text = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      const { data } = JSON.parse(line);
      if (data && JSON.parse(data).count > after) yield JSON.parse(data);
    }
  }
}

/** Runs a curl command until it has printed what is wanted. */
function curlPrints(command, wanted) {
  return new Promise((resolve, reject) => {
    const child = spawn("sh", ["-c", "exec " + command]);
    let out = "", problem = "", found = false;
    child.stdout.on("data", (chunk) => {
      out += chunk;
      if (!found && wanted.test(out)) {
        found = true;
        child.kill();
      }
    });
    child.stderr.on("data", (chunk) => { problem += chunk; });
    child.on("error", reject);
    child.on("close", () => found ? resolve() : reject(new Error(`${command}\nprinted ${out}\n${problem}`)));
  });
}

/** Writes the top of the page by day, and a connection that was cut by night. */
async function paint() {
  const open = async (colorScheme, height) => {
    const context = await browser.newContext({ viewport: { width: 1200, height }, colorScheme, locale: "en-GB" });
    const page = await context.newPage();
    await page.goto(base);
    return page;
  };
  // Stretches the window from above one element to below another.
  const frame = async (page, first, last) => {
    const [top, height] = await page.evaluate(([first, last]) => {
      const top = first ? document.querySelector(first).getBoundingClientRect().top - 36 : -scrollY;
      return [top + scrollY, document.querySelector(last).getBoundingClientRect().bottom + 20 - top];
    }, [first, last]);
    await page.setViewportSize({ width: 1200, height: Math.ceil(height) });
    await page.evaluate((top) => scrollTo({ top, behavior: "instant" }), top);
  };

  const day = await open("light", 900);
  await frame(day, "", "#clock");
  await hasText(day, "#clock .wire", /^data: /);
  await day.screenshot({ path: `${pictures}/day.png` });

  const night = await open("dark", 900);
  const received = (n) => night.waitForFunction((n) => Number(document.querySelector("#panel-received").innerText) >= n, n);
  await frame(night, "#panel h2", "#panel .live");
  await received(14);
  await night.getByRole("button", { name: "Cut the connection" }).click();
  await received(34);
  await night.mouse.move(0, 0);
  await night.screenshot({ path: `${pictures}/night.png` });
}

await (pictures ? paint() : checkAll());
await browser.close();

// A headless Chromium, and checks in it, for the scripts that are started as
//
//   node SCRIPT URL CHROMIUM [DIRECTORY]

import { chromium } from "playwright-core";
import { assert, base, check } from "./checks.mjs";

const executablePath = process.argv[3];

/** Where pictures are to be written; undefined: none are, the page is checked. */
export const pictures = process.argv[4];

export const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

export const desktop = { viewport: { width: 1280, height: 900 }, locale: "en-GB" };
export const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };

/** Runs a check with a browser profile of its own, in which nothing may complain but what is expected. */
export function inBrowser(name, { expected, ...options }, body) {
  return check(name, async () => {
    const context = await browser.newContext({ ...desktop, ...options });
    context.setDefaultTimeout(10_000);
    const complaints = [];
    context.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    context.on("weberror", (error) => complaints.push(String(error.error())));
    context.on("request", (request) => {
      if (!request.url().startsWith(base)) complaints.push("request of " + request.url());
    });
    try {
      await body(context);
      assert.deepEqual(complaints.filter((text) => !expected?.test(text)), []);
    } finally {
      await context.close();
    }
  });
}

/** Waits until an element's text matches. */
export async function hasText(page, selector, pattern) {
  await page.waitForFunction(([selector, source]) => {
    return new RegExp(source, "s").test(document.querySelector(selector).innerText);
  }, [selector, pattern.source]);
}

export const textOf = (page, selector) => page.locator(selector).innerText();

/** The page keeps to the browser's theme. */
export async function keepsTo(page, colorScheme) {
  const [paper, ink] = await page.evaluate(() => {
    const luminance = (color) => color.match(/\d+/g).slice(0, 3).reduce((sum, c) => sum + Number(c), 0) / 765;
    const style = getComputedStyle(document.documentElement);
    return [luminance(style.backgroundColor), luminance(style.color)];
  });
  assert.ok(colorScheme === "dark" ? paper < 0.2 && ink > 0.8 : paper > 0.8 && ink < 0.2, `paper ${paper}, ink ${ink}`);
}

/** The page has one heading of the first level, and none that skips a level. */
export async function headingsAreNested(page) {
  const levels = await page.locator("h1, h2, h3, h4").evaluateAll((all) => all.map((h) => Number(h.tagName[1])));
  assert.equal(levels.filter((level) => level === 1).length, 1);
  levels.reduce((before, level) => {
    assert.ok(level <= before + 1, `a heading of level ${level} after one of ${before}`);
    return level;
  }, 0);
}

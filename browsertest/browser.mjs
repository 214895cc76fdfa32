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

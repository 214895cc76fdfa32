// Streams over TLS in headless Chromium, of a hub that asks nobody who they are.
//
//	node tls.mjs URL CHROMIUM KEY
//
// The hub speaks HTTP/3 too, and has no more than twelve streams for an address.

import { assert, base } from "./checks.mjs";
import { answers, close, inBrowser, isOpen, launch, listen, problem, publishing, received, stream, until } from "./streams.mjs";

const [executablePath, key] = process.argv.slice(3);
const nothing = new URL("/nothing", base).href; // a page that has no stream of its own

/** Opens as many streams as an address may have. */
async function openAll(page, topic) {
  const indexes = await Promise.all(Array.from({ length: 12 }, () => listen(page, "/events/" + topic)));
  for (const index of indexes) await isOpen(page, index);
  return indexes;
}

/** Has numbers come to all streams, of which none was ever broken. */
async function allLive(page, topic, indexes) {
  await publishing(page, topic, {}, async () => {
    for (const index of indexes) await received(page, index, 20);
    return indexes;
  });
  for (const index of indexes) assert.deepEqual((await stream(page, index)).errors, []);
}

const browser = await launch(executablePath, [key], "--disable-quic");
await inBrowser(browser, "overload: a stream too many is told, and comes in when there is room", async (context, topic) => {
  const page = await context.newPage();
  await page.goto(nothing);
  const [first, ...others] = await openAll(page, topic);
  const late = await listen(page, "/events/" + topic);
  await until(page, late, "sent away, to come back", (s) => s.problems.length > 0 && s.errors.length > 0);
  const { problems, errors } = await stream(page, late);
  assert.deepEqual(problems.map((p) => p.type), [problem("too-many-streams")]);
  assert.match(problems[0].detail, /--max-streams-per-address/);
  assert.deepEqual(errors, [0]);

  await close(page, first);
  const { opened } = await stream(page, late);
  await until(page, late, "open again", (s, n) => s.opened > n, opened, 20_000); // it is told 5 to 10 s
  await allLive(page, topic, others);
  await until(page, late, "live", (s) => s.numbers.length > 0);
});
await browser.close();

const quick = await launch(executablePath, [key], "--enable-quic", "--origin-to-force-quic-on=" + new URL(base).host);
await inBrowser(quick, "HTTP/3: many streams, all of them live", async (context, topic) => {
  const page = await context.newPage();
  await page.goto(nothing);
  const all = await answers(context, page);
  const indexes = await openAll(page, topic);
  await allLive(page, topic, indexes);
  assert.deepEqual(all().map(({ status, protocol }) => [status, protocol]), indexes.map(() => [200, "h3"]));
});
await quick.close();

// The npm package eventsource with tokens, which it can send in a header.
//
//	node auth_client.mjs URL TOKENS
//
// The tokens, in JSON, are good for test/npm: one that expires soon, and a lasting one.

import { EventSource } from "eventsource";
import { assert, assertConsecutive, base, check, publish } from "./checks.mjs";

const tokens = JSON.parse(process.argv[3]);
const url = (path) => new URL(path, base).href;

/** An EventSource that asks for a token whenever it connects. */
function authorised(path, token) {
  return new EventSource(url(path), {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: "Bearer " + token() } }),
  });
}

/** Resolves with the error that ends a source for good. */
function failure(source) {
  return new Promise((resolve, reject) => {
    source.onopen = () => reject(new Error("it was let in"));
    source.onerror = ({ code }) => resolve([code, source.readyState]);
  }).finally(() => source.close());
}

await check("without a token it is refused, and a request tells why", async () => {
  assert.deepEqual(await failure(new EventSource(url("/events/test/npm"))), [401, EventSource.CLOSED]);
  const response = await fetch(url("/events/test/npm"));
  assert.equal(response.headers.get("Content-Type"), "application/problem+json");
  const { type, detail } = await response.json();
  assert.equal(type, "urn:tidewire:problem:unauthorized");
  assert.match(detail, /Authorization: Bearer .*POST \/tickets/);
});

await check("with a token for another topic it is refused", async () => {
  assert.deepEqual(await failure(authorised("/events/test/other", () => tokens.lasting)), [403, EventSource.CLOSED]);
});

await check("a token that expires is renewed, and nothing is missed", async () => {
  const used = [], numbers = [], problems = [];
  const source = authorised("/events/test/npm", () => {
    const name = problems.length === 0 ? "short" : "lasting";
    used.push(name);
    return tokens[name];
  });
  let published = 0;
  const next = () => publish("/test/npm", String(++published), "text/plain", { Authorization: "Bearer " + tokens.lasting });
  await new Promise((resolve, reject) => {
    source.onerror = ({ code, message }) => { if (code) reject(new Error(`${code} ${message}`)); };
    source.onopen = () => { if (published === 0) next().catch(reject); };
    source.onmessage = ({ data }) => {
      numbers.push(Number(data));
      if (problems.length > 0 && numbers.length >= 5) resolve();
      else if (problems.length > 0) next().catch(reject);
    };
    source.addEventListener("tidewire.error", ({ data }) => {
      problems.push(JSON.parse(data).type);
      next().catch(reject); // while nobody listens
    });
  }).finally(() => source.close());
  assertConsecutive(numbers);
  assert.equal(numbers[0], 1);
  assert.deepEqual([used, problems], [["short", "lasting"], ["urn:tidewire:problem:token-expired"]]);
});

// Runs named checks and reports each as a line of JSON, which the Go test turns into a
// subtest.

import { strict as assert } from "node:assert";

export { assert };

/** The address of the server under test. */
export const base = process.argv[2];

const limit = 30_000; // ms for one check

/** Runs a check: a function that throws if something is wrong. */
export async function check(name, body) {
  const began = Date.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${limit} ms`)), limit);
  });
  let error;
  try {
    await Promise.race([body(), late]);
  } catch (e) {
    error = (e.stack ?? String(e)) + (e.cause ? "\nbecause of " + e.cause : "");
    error = error.replace(/\x1b\[\d+m/g, ""); // playwright's colours
  }
  clearTimeout(timer);
  console.log(JSON.stringify({ name, ms: Date.now() - began, error }));
}

/** Publishes an event, and returns what the server answers. */
export async function publish(path, body, type = "text/plain", headers = {}) {
  const response = await fetch(new URL("/events" + path, base), { method: "POST", body, headers: { "Content-Type": type, ...headers } });
  const text = await response.text();
  assert.equal(response.status, 201, text);
  return JSON.parse(text);
}

/** Fails unless each number is one more than the one before it. */
export function assertConsecutive(numbers) {
  for (let i = 1; i < numbers.length; i++) {
    assert.equal(numbers[i], numbers[i - 1] + 1, `number ${i} of ${numbers}`);
  }
}

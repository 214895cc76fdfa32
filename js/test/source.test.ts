import { execFileSync } from "node:child_process";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { TidewireSource } from "../src/index.js";
import { type Call, listen, serve, uncaught } from "./world.js";

const until = (check: () => void) => vi.waitFor(check, { timeout: 40_000, interval: 5 });

/** Times with which nothing has to be waited for. */
const quick = { probeTimeout: 150, deadAfter: 600, climbAfter: 300, pollInterval: 50, wait: 2_000, maxRetry: 300 };

test("receives messages and types of its own", async () => {
  const { url, calls } = await serve((c) => c.stream("retry: 100\nid: 1\ndata: one\ndata: two\n\nevent: price\nid: 2\ndata: 9.80\n\n"));
  const { source, data, log } = listen(url);
  const prices: unknown[] = [];
  source.addEventListener("price", { handleEvent: ({ type, data, lastEventId, origin, target }) => prices.push(type, data, lastEventId, origin, target === source) });
  await until(() => expect(prices).toEqual(["price", "9.80", "2", new URL(url).origin, true]));
  expect(data).toEqual(["one\ntwo"]);
  expect(log).toEqual(["open"]);
  expect(source.lastEventId).toBe("2");
  const { headers } = calls[0]!.request;
  expect([headers.accept, headers["last-event-id"], headers.authorization]).toEqual(["text/event-stream", undefined, undefined]);
});

test("goes on after the last id, after the time the server says", async () => {
  const { url, calls } = await serve((c) => {
    c.stream(`retry: 200\nid: é${c.n}\ndata: ${c.n}\n\n`);
    if (c.n === 1) c.response.end();
  });
  const { data, log, states } = listen(url, { lastEventId: "stored" });
  await until(() => expect(data).toEqual(["1", "2"]));
  expect(log).toEqual(["open", "error 0", "open"]);
  const ids = calls.map((c) => Buffer.from(c.request.headers["last-event-id"] as string, "latin1").toString());
  expect(ids).toEqual(["stored", "é1"]);
  expect(states.find(({ retryIn }) => retryIn)?.retryIn).toBeGreaterThanOrEqual(200);
});

test("a bare id moves the place to go on from, and is no event", async () => {
  const { url } = await serve((c) => c.stream("retry: 100\nid: 7\n\n"));
  const { source, data } = listen(url);
  await until(() => expect(source.lastEventId).toBe("7"));
  expect(data).toEqual([]);
});

test("is open when the first bytes have come, as they tell from where to go on after a break", async () => {
  const { url } = await serve((c) => {
    if (c.n > 1) return c.stream("retry: 100\nid: 7\n\n");
    c.response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
    c.response.socket!.end(); // when they are sent
  });
  const { source, log } = listen(url, { maxRetry: 100 });
  await until(() => expect(source.lastEventId).toBe("7"));
  expect(log).toEqual(["error 0", "open"]);
});

test("is open at once where another server sends no bytes at first", async () => {
  const { url } = await serve((c) => c.stream(""));
  const { log } = listen(url, { fallback: false });
  await until(() => expect(log).toEqual(["open"]));
});

test("close ends everything at once, within what has come together too", async () => {
  const { url, calls } = await serve((c) => c.stream("data: 1\n\ndata: 2\n\n"));
  const { source, data, log } = listen(url);
  source.addEventListener("message", () => source.close());
  await until(() => expect(calls[0]!.response.destroyed).toBe(true));
  expect([data, log, source.readyState]).toEqual([["1"], ["open"], 2]);
});

test("close within onState ends everything at once, too", async () => {
  const { url } = await serve((c) => c.status(503));
  const { source, log, states } = listen(url, { onState: () => source.close() });
  await until(() => expect(source.readyState).toBe(2));
  expect([log, states.map(({ readyState }) => readyState)]).toEqual([[], [0, 2]]);
});

test("what onGap throws is reported, and stops nothing", async () => {
  const errors = uncaught();
  const { url, calls } = await serve((c) => c.stream(`id: 5\nevent: tidewire.gap\ndata: {"reason":"expired"}\n\nid: 6\ndata: six\n\n`));
  const { source, data } = listen(url, { onGap: ({ reason }) => { throw reason; } });
  const gaps: string[] = [];
  source.addEventListener("tidewire.gap", ({ lastEventId }) => gaps.push(lastEventId));
  await until(() => expect(data).toEqual(["six"]));
  expect([gaps, errors, calls.length]).toEqual([["5"], ["expired"], 1]);
});

test("times may be longer than timers can be", async () => {
  const { url, calls } = await serve((c) => {
    setTimeout(() => c.stream("data: 1\n\n"), 100);
    setTimeout(() => c.response.write("data: 2\n\n"), 200);
  });
  const { data } = listen(url, { probeTimeout: Infinity, deadAfter: 2 ** 31 });
  await until(() => expect(data).toEqual(["1", "2"]));
  expect(calls.length).toBe(1);
});

describe("an answer that is no stream", () => {
  test("is one though its document is cut", async () => {
    const { url } = await serve((c) => {
      c.response.writeHead(404, { "Content-Type": "application/problem+json", "Content-Length": "100" });
      c.response.write("{");
      setImmediate(() => c.response.destroy());
    });
    const { log, source } = listen(url);
    await until(() => expect(log).toEqual(["error 2"]));
    expect(source.state.problem).toEqual({ status: 404 });
  });

  test("is one though its document never ends", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => { vi.useRealTimers(); });
    const { url } = await serve((c) => {
      c.response.writeHead(404, { "Content-Type": "application/problem+json" });
      c.response.write("{");
    });
    const { source, log } = listen(url, { fallback: false });
    for (let i = 0; i < 1_000 && source.readyState !== 2; i++) await passes(1_000);
    expect(log).toEqual(["error 2"]);
  });

  test.each([
    [204, {}, 1], [404, {}, 1], [401, {}, 1], [403, {}, 1], [200, { "Content-Type": "text/html" }, 1],
  ])("%i is for good", async (code, headers, times) => {
    const { url, calls } = await serve((c) => c.status(code, headers));
    const { log, source } = listen(url);
    await until(() => expect(source.readyState).toBe(2));
    expect([log, calls.length]).toEqual([["error 2"], times]);
    expect(source.state.problem?.status).toBe(code === 204 || code === 200 ? undefined : code);
  });

  test.each([500, 502, 503, 429])("%i is tried again, when the server says", async (code) => {
    const { url, calls } = await serve((c) => c.n === 1 ? c.status(code, { "Retry-After": "1" }, { type: "urn:x", detail: "later" }) : c.stream());
    const { source, states, log } = listen(url, { maxRetry: 100 });
    await until(() => expect(source.readyState).toBe(1));
    expect(log).toEqual(["error 0", "open"]);
    expect(calls.length).toBe(2);
    expect(states[0]!.retryIn).toBeGreaterThanOrEqual(1_000);
    expect(states[0]).toMatchObject({ readyState: 0, problem: { status: code, detail: "later" } });
  });

  test("waits are longer each time, and differ", async () => {
    const { url, calls } = await serve((c) => c.n === 1 ? (c.stream("retry: 100\n"), c.response.end()) : c.status(503));
    const { states } = listen(url, { maxRetry: 350 });
    await until(() => expect(calls.length).toBe(6));
    const waits = states.flatMap(({ retryIn }) => retryIn ?? []);
    [100, 200, 350, 350].forEach((least, i) => {
      expect(waits[i]).toBeGreaterThanOrEqual(least);
      expect(waits[i]).toBeLessThanOrEqual(1.5 * least);
    });
  });
});

/** Lets time go by that is not real, and what has come over the network arrive. */
async function passes(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
  await new Promise((resolve) => setImmediate(resolve));
}

describe("tokens", () => {
  test("each attempt has a fresh one", async () => {
    const { url, calls } = await serve((c) => {
      c.stream("retry: 100\ndata: x\n\n");
      if (c.n === 1) c.response.end();
    });
    let n = 0;
    const { data } = listen(url, { getToken: async () => "t" + ++n, headers: { "X-Page": "7" } });
    await until(() => expect(data.length).toBe(2));
    expect(calls.map((c) => [c.request.headers.authorization, c.request.headers["x-page"]])).toEqual([["Bearer t1", "7"], ["Bearer t2", "7"]]);
  });

  test("one that is refused is replaced at once", async () => {
    const { url } = await serve((c) => c.n === 1 ? c.status(401) : c.stream("retry: 100\ndata: x\n\n"));
    const { data, states } = listen(url, { getToken: () => "t" });
    await until(() => expect(data).toEqual(["x"]));
    expect(states[0]).toMatchObject({ readyState: 0, retryIn: 0, problem: { status: 401 } });
  });

  test("those that are refused always are an end", async () => {
    const { url, calls } = await serve((c) => c.status(403));
    const { source, log } = listen(url, { getToken: () => "t", maxRetry: 10 });
    vi.spyOn(Math, "random").mockReturnValue(0);
    await until(() => expect(source.readyState).toBe(2));
    vi.restoreAllMocks();
    expect([calls.length, log]).toEqual([4, ["error 0", "error 0", "error 0", "error 2"]]);
  });

  test("one that expires on the way is replaced at once, and once", async () => {
    const { url, calls } = await serve((c) => {
      c.stream(`retry: 400\nid: ${c.n}\ndata: ${c.n}\n\n`);
      if (c.n < 3) c.response.write(`event: tidewire.error\ndata: {"type":"urn:tidewire:problem:token-expired","status":401}\n\n`);
    });
    const { data, ids, states } = listen(url, { getToken: () => "t" });
    await until(() => expect(data).toEqual(["1", "2", "3"]));
    expect(ids).toEqual(["1", "2", "3"]);
    const waits = states.flatMap(({ retryIn }) => retryIn ?? []);
    expect(waits[0]).toBe(0);
    expect(waits[1]).toBeGreaterThanOrEqual(400);
    expect(calls[2]!.request.headers["last-event-id"]).toBe("2");
  });

  test("one that is refused while polling is as good as the first", async () => {
    let n = 0;
    const { url } = await serve((c) => {
      if (c.way === "streaming") return;
      if (++n % 2 === 0) return c.status(401);
      c.poll({ events: [{ id: "e-" + n, data: String(n) }], last_id: "e-" + n });
    });
    const { data, log } = listen(url, { ...quick, climbAfter: 60_000, getToken: () => "t" });
    await until(() => expect(data.length).toBeGreaterThan(4));
    expect(log.slice(0, 9)).toEqual([...Array(4).fill(["open", "error 0"]).flat(), "open"]);
  });

  test("a failure to get one is a failed attempt", async () => {
    const { url } = await serve((c) => c.stream("retry: 100\ndata: x\n\n"));
    let n = 0;
    const { source, log } = listen(url, { getToken: async () => { if (!n++) throw new Error("no network"); return "t"; }, maxRetry: 100 });
    await until(() => expect(source.readyState).toBe(1));
    expect(log).toEqual(["error 0", "open"]);
  });
});

describe("what stands in the way of a stream", () => {
  test("a proxy that holds it back: long-polling, and a stream again when that works", async () => {
    let buffers = true;
    let next = 1;
    const { url, calls } = await serve((c) => {
      if (c.way === "streaming") {
        if (!buffers) c.stream(`retry: 100\nid: ${next}\ndata: ${next++}\n\n`);
        return;
      }
      if (c.way === "polling") return c.poll({ last_id: "e-0" });
      const events = next > 4 ? [] : [{ id: "e-" + next, data: String(next++) }];
      c.poll({ events, last_id: "e-" + (next - 1) });
      if (next > 4) buffers = false;
    });
    const { data, states, log } = listen(url, quick);
    await until(() => expect(data).toEqual(["1", "2", "3", "4", "5"]));
    expect(log).toEqual(["open"]);
    expect(states.filter(({ readyState }) => readyState === 1).map(({ way }) => way)).toEqual(["long-polling", "streaming"]);
    expect(calls.slice(0, 3).map(({ way }) => way)).toEqual(["streaming", "polling", "long-polling"]);
    expect(calls[2]!.url.searchParams.get("last_event_id")).toBe("e-0");
    expect(calls[3]!.url.searchParams.get("last_event_id")).toBe("e-1");
    expect(calls.findLast(({ way }, i) => way === "streaming" && calls[i - 1]?.way !== "streaming")!.request.headers["last-event-id"]).toBe("e-4");
  });

  test("a proxy that sends headers and holds back the rest", async () => {
    const { url, calls } = await serve((c) => {
      if (c.way !== "streaming") return c.poll({ last_id: "e-1", events: c.n === 2 ? [{ id: "e-1", data: "x" }] : [] });
      c.response.writeHead(200, { "Content-Type": "text/event-stream" });
      c.response.flushHeaders();
    });
    const { data, log } = listen(url, { ...quick, climbAfter: 60_000, wait: 200 });
    await until(() => expect(data).toEqual(["x"]));
    expect(log).toEqual(["open"]);
    expect(calls[1]!.way).toBe("polling");
  });

  test.each([60_000, 0])("a proxy that cuts streams, deadAfter %i", async (deadAfter) => {
    const { url, calls } = await serve((c) => {
      if (c.way !== "streaming") return c.poll({ last_id: "e-9", events: c.n === 4 ? [{ id: "e-9", data: "polled" }] : [] });
      c.stream(`retry: 100\nid: e-${c.n}\ndata: ${c.n}\n\n`);
      setImmediate(() => c.response.destroy());
    });
    const { data } = listen(url, { ...quick, deadAfter, climbAfter: 60_000 });
    await until(() => expect(data.slice(0, 4)).toEqual(["1", "2", "3", "polled"]));
    expect(calls.slice(0, 4).map(({ way }) => way)).toEqual(["streaming", "streaming", "streaming", "polling"]);
    expect(calls[3]!.url.searchParams.get("last_event_id")).toBe("e-3");
  });

  test("a proxy that cuts what is held, too: polling", async () => {
    let n = 0;
    const { url, calls } = await serve((c) => {
      if (c.way === "polling") c.poll({ events: [{ id: "e-" + ++n, data: String(n) }], last_id: "e-" + n });
      if (c.way === "long-polling") setTimeout(() => c.status(504), 1_050);
    });
    const { data, source } = listen(url, { ...quick, climbAfter: 60_000 });
    await until(() => expect(data.length).toBeGreaterThan(5));
    expect(source.state.way).toBe("polling");
    expect(calls.filter(({ way }) => way === "long-polling").length).toBe(2);
    expect(data).toEqual(data.map((_, i) => String(i + 1)));
  });

  test("a connection that is dead is made anew", async () => {
    const { url, calls } = await serve((c) => c.stream("retry: 100\nid: 3\n\n"));
    listen(url, { ...quick, fallback: true });
    await until(() => expect(calls.length).toBe(2));
    expect(calls[1]!.request.headers["last-event-id"]).toBe("3");
    expect(calls[1]!.way).toBe("streaming");
  });

  test("comments keep one alive", async () => {
    const { url, calls } = await serve((c) => {
      c.stream();
      const timer = setInterval(() => c.response.write(":\n"), 100);
      c.response.on("close", () => clearInterval(timer));
      setTimeout(() => c.response.write("data: late\n\n"), 1_500);
    });
    const { data } = listen(url, quick);
    await until(() => expect(data).toEqual(["late"]));
    expect(calls.length).toBe(1);
  });

  test("a stream is tried again though the clock was set back", async () => {
    let buffers = true;
    const { url } = await serve((c) => {
      if (c.way !== "streaming") return c.poll({ last_id: "e-1" });
      if (!buffers) c.stream("data: 1\n\n");
    });
    const { source, data } = listen(url, { ...quick, wait: 50 });
    await until(() => expect(source.state.way).toBe("long-polling"));
    const now = Date.now;
    vi.spyOn(Date, "now").mockImplementation(() => now() - 3_600_000);
    onTestFinished(() => { vi.restoreAllMocks(); });
    buffers = false;
    await vi.waitFor(() => expect(data).toEqual(["1"]), { timeout: 5_000, interval: 5 });
  });

  test.each([
    ["streams", undefined],
    ["has other JSON", (c: Call) => c.json({ items: [] })],
    ["has null", (c: Call) => c.json(null)],
    ["refuses", (c: Call) => c.status(406)],
  ])("a server that cannot be polled is left to stream: it %s", async (_, polled) => {
    const { url, calls } = await serve((c) => {
      if (polled && c.way !== "streaming") return polled(c);
      c.response.writeHead(200, { "Content-Type": "text/event-stream" });
      c.response.flushHeaders();
      if (c.n === 3) setTimeout(() => c.response.write("data: late\n\n"), 1_000);
    });
    const { data, log } = listen(url, quick);
    await until(() => expect(data).toEqual(["late"]));
    expect([calls.length, log]).toEqual([3, ["open"]]);
  });
});

describe("polls", () => {
  const blocked = { ...quick, climbAfter: 60_000 };

  test("tell of gaps, and of the end", async () => {
    const gap = { reason: "expired", requested: "e-1", resumed: "e-5" };
    const { url } = await serve((c) => {
      if (c.way !== "streaming") c.poll({ gap, events: [{ id: "e-6", data: "six" }], last_id: "e-6", closed: true });
    });
    const onGap = vi.fn();
    const { source, data, log } = listen(url, { ...blocked, onGap, lastEventId: "e-1" });
    const gaps: string[] = [];
    source.addEventListener("tidewire.gap", ({ data }) => gaps.push(data));
    await until(() => expect(source.readyState).toBe(2));
    expect(data).toEqual(["six"]);
    expect(onGap.mock.calls).toEqual([[gap]]);
    expect(gaps.map((g) => JSON.parse(g))).toEqual([gap]);
    expect(log).toEqual(["open", "error 2"]);
  });
});

describe("iteration", () => {
  test("ends with the stream, and has what came before", async () => {
    const { url } = await serve((c) => {
      if (c.n > 1) return c.status(204);
      c.stream("retry: 100\ndata: 1\n\nevent: price\ndata: 2\n\nevent: tidewire.hb\ndata: x\n\n");
      c.response.end();
    });
    const got: string[] = [];
    for await (const { type, data } of listen(url).source) got.push(type + " " + data);
    expect(got).toEqual(["message 1", "price 2"]);
  });

  test("throws what was refused", async () => {
    const { url } = await serve((c) => c.status(403, {}, { detail: "ask for less" }));
    await expect(listen(url).source[Symbol.asyncIterator]().next()).rejects.toThrow("ask for less");
  });

  test("throws it, too, where a listener closes the source then", async () => {
    const { url } = await serve((c) => c.status(403, {}, { detail: "ask for less" }));
    const { source } = listen(url);
    source.onerror = () => source.close();
    await expect(source[Symbol.asyncIterator]().next()).rejects.toThrow("ask for less");
  });

  test("closes the source when it is left", async () => {
    const { url, calls } = await serve((c) => c.stream("data: 1\n\n"));
    const { source } = listen(url);
    for await (const _ of source) break;
    expect(source.readyState).toBe(2);
    await until(() => expect(calls[0]!.response.destroyed).toBe(true));
  });
});

test("a URL that cannot be parsed is a SyntaxError, as in EventSource", () => {
  expect(() => new TidewireSource("/relative")).toThrow(expect.objectContaining({ name: "SyntaxError" }));
});

test("handlers are replaced in place, and taken away", async () => {
  const { url } = await serve((c) => c.stream("data: 1\n\n"));
  const source = new TidewireSource(url);
  const order: string[] = [];
  source.onmessage = () => order.push("first");
  source.addEventListener("message", () => { order.push("listener"); source.close(); });
  source.onmessage = () => order.push("replaced");
  source.onopen = () => order.push("open");
  source.onopen = null;
  await until(() => expect(order).toEqual(["replaced", "listener"]));
  expect(source.onopen).toBe(null);
});

test("importing it takes nothing but EventTarget, and does nothing", () => {
  const script = `
    const mine = ["Object", "Array", "String", "Number", "Promise", "Error", "Symbol", "Map", "Set", "Math", "JSON", "EventTarget", "globalThis", "console"];
    const print = console.log;
    for (const name of Object.getOwnPropertyNames(globalThis)) if (!mine.includes(name)) try { delete globalThis[name]; } catch {}
    import(${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)}).then((m) => print(Object.keys(m).join(), typeof fetch, typeof Event));`;
  expect(execFileSync(process.execPath, ["-e", script], { encoding: "utf8" })).toBe("TidewireSource undefined undefined\n");
});

// A real HTTP server, and sources that are closed when a test ends.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { type Options, type State, TidewireSource } from "../src/index.js";

/** A request: what it asks for, and how it is answered. */
export interface Call {
  n: number; // from 1
  request: IncomingMessage;
  response: ServerResponse;
  url: URL;
  /** How the client is waiting. */
  way: "streaming" | "long-polling" | "polling";
  /** Begins a stream, with its first bytes. */
  stream(first?: string): void;
  poll(answer: { events?: { id: string; data: string; type?: string }[]; gap?: object; last_id: string; closed?: boolean }): void;
  json(answer: unknown): void;
  status(code: number, headers?: Record<string, string>, problem?: object): void;
}

export interface World {
  url: string;
  calls: Call[];
}

/** Starts a server, which answers each request with answer. */
export async function serve(answer: (call: Call) => void): Promise<World> {
  const calls: Call[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url!, "http://" + request.headers.host);
    const polls = request.headers.accept === "application/json";
    const call: Call = {
      n: calls.length + 1, request, response, url,
      way: !polls ? "streaming" : url.searchParams.has("wait") ? "long-polling" : "polling",
      stream(first = "retry: 100\n") {
        response.writeHead(200, { "Content-Type": "text/event-stream" });
        response.write(first);
      },
      poll({ events = [], gap = null, ...more }: { events?: { id: string; data: string; type?: string }[]; gap?: object | null; last_id: string }) {
        call.json({ events: events.map((e) => ({ type: "message", position: e.id, ...e })), gap, ...more });
      },
      json(answer) {
        response.writeHead(200, { "Content-Type": "application/json" });
        response.end(JSON.stringify(answer));
      },
      status(code, headers = {}, problem) {
        response.writeHead(code, { ...headers, ...(problem && { "Content-Type": "application/problem+json" }) });
        response.end(problem && JSON.stringify(problem));
      },
    };
    calls.push(call);
    answer(call);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  }));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/events/x`, calls };
}

/** A source, and all that has happened to it. */
export interface Seen {
  source: TidewireSource;
  data: string[];
  ids: string[];
  log: string[]; // open, error 0, error 2
  states: State[];
}

export function listen(url: string, options: Options = {}): Seen {
  const states: State[] = [];
  const source = new TidewireSource(url, { ...options, onState: (s) => { states.push(s); options.onState?.(s); } });
  onTestFinished(() => source.close());
  const seen: Seen = { source, data: [], ids: [], log: [], states };
  source.onopen = () => seen.log.push("open");
  source.onerror = () => seen.log.push("error " + source.readyState);
  source.onmessage = ({ data, lastEventId }) => {
    seen.data.push(data);
    seen.ids.push(lastEventId);
  };
  return seen;
}

/** What is thrown where nobody can catch it, in this test. */
export function uncaught(): unknown[] {
  const before = process.listeners("uncaughtException");
  const errors: unknown[] = [];
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => { errors.push(error); });
  onTestFinished(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of before) process.on("uncaughtException", listener);
  });
  return errors;
}

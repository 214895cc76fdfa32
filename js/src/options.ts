/** What a source can be told. Times are in milliseconds; no timer runs for more than a day. */
export interface Options {
  /** Send cookies to other origins too, as in EventSource. Default: false. */
  withCredentials?: boolean;

  /** Headers of each request. A page of another origin needs the server's leave for them. */
  headers?: Record<string, string>;

  /**
   * Asked before each attempt for a token, which is sent as `Authorization: Bearer …`. Where it
   * rejects, the attempt has failed and another follows. With it, an answer of 401 or 403 is
   * no end: it is asked again, three times at most.
   */
  getToken?: () => string | Promise<string>;

  /** Where to go on: {@link TidewireSource.lastEventId} of an earlier source. Default: the URL says it, or now. */
  lastEventId?: string;

  /**
   * Share one connection with all sources of the same URL and options, in all tabs of the
   * origin. A text keeps apart what has to be, such as the user's name: the connection is made
   * with the token of one of them. A source with a beginning of its own (`lastEventId`, or
   * `since`, `last` or `last_event_id` in the URL) polls until it has come to where the others are.
   * Default: false.
   */
  share?: boolean | string;

  /** The URL of this package's worker.js, on the page's origin: sharing is then done in a SharedWorker, on plain http too. */
  workerUrl?: string | URL;

  /** Close the connection while all of the pages that share it are hidden, and go on from there afterwards. Default: false. */
  pauseWhenHidden?: boolean;

  /** Poll where streams do not come through. Default: true; false for servers other than Tidewire. */
  fallback?: boolean;

  /** How long the first byte of a stream may take. Default: 5,000. */
  probeTimeout?: number;

  /** A stream with not even a heartbeat for so long is dead; 0, or without fallback: never. Default: 45,000. */
  deadAfter?: number;

  /** How long to poll before a stream is tried again; more each time that it fails, up to sixteen times as long. Default: 60,000. */
  climbAfter?: number;

  /** Between polls, where long-polling does not come through either. Default: 5,000. */
  pollInterval?: number;

  /** How long a long-poll may be held by the server. Default: 30,000; the server holds none for more than a minute. */
  wait?: number;

  /** The most between attempts that fail, unless the server asks for more. Default: 30,000. */
  maxRetry?: number;

  /** Called when events that were asked for cannot be had any more. */
  onGap?: (gap: Gap) => void;

  /** Called when anything of the state has changed. */
  onState?: (state: State) => void;
}

/** What is missing, as the server tells it. */
export interface Gap {
  reason: "expired" | "unknown" | "epoch" | "slow";
  requested: string;
  resumed: string;
}

/** How events are waited for. */
export type Way = "streaming" | "long-polling" | "polling";

/** Why something was refused: the server's problem document (RFC 9457), as far as there is one. */
export interface Problem {
  type?: string;
  status?: number;
  detail?: string;
  [more: string]: unknown;
}

/** How a source stands. */
export interface State {
  /** As in EventSource: 0 connecting, 1 open, 2 closed. */
  readyState: number;
  way: Way;
  /** Whether this page holds the connection: for itself, or for others too ("leader"). */
  role: "alone" | "leader" | "follower" | "worker";
  paused: boolean;
  /** Why the last attempt failed, until one succeeds. */
  problem?: Problem;
  /** When the next attempt is made: ms from now. */
  retryIn?: number;
}

/** What a link or a leader tells its listeners. */
export type Note =
  | { kind: "open"; way: Way }
  | { kind: "event"; type: string; data: string; id: string; origin: string; position?: string }
  | { kind: "id"; id: string; exact?: boolean } // exact: a position, which stands for one place only
  | { kind: "error"; retryIn: number; problem?: Problem }
  | { kind: "end"; problem?: Problem; retryIn?: undefined } // for good
  | { kind: "paused" }
  | { kind: "lost" } // what comes now does not follow on what came before
  | { kind: "role"; role: State["role"] };

/** A note with how many events there were up to it, in all tabs alike. */
export interface Numbered {
  /** Numbers of another era count other events. */
  era: string;
  n: number;
  note: Note;
  /** Numbers begin anew here, higher than all before: there is a gap. */
  jump?: boolean;
}

export type Sink = (note: Note) => void;

/** A source of notes. */
export interface Feed {
  close(): void;
  /** Tells whether the page is hidden; asked for by pauseWhenHidden only. */
  hide(hidden: boolean): void;
  /** Asks for a note of kind id that is exact. */
  sync(): void;
}

const defaults = {
  withCredentials: false,
  headers: {} as Record<string, string>,
  fallback: true,
  probeTimeout: 5_000,
  deadAfter: 45_000,
  climbAfter: 60_000,
  pollInterval: 5_000,
  wait: 30_000,
  maxRetry: 30_000,
};

/** What makes a connection, and a worker can be sent. */
export type LinkOptions = typeof defaults & { url: string };

export function linkOptions(url: string, options: Options): LinkOptions {
  const names = Object.keys(defaults) as (keyof typeof defaults)[];
  return { url, ...Object.fromEntries(names.map((name) => [name, options[name] ?? defaults[name]])) } as LinkOptions;
}

// The four ways of waiting. The page shows the text of these functions, so what is shown
// is what runs. Each goes on after the id that it is given, and tells on.event of each
// event, on.gap of what cannot be had any more, and on.state of its connection, until the
// signal says that it is enough.

export async function polling(url, last, on, signal) {
  while (!signal.aborted) {
    const next = pause(on.interval, signal);
    on.state("asks");
    try {
      const response = await fetch(`${url}?last_event_id=${last}`, { headers: { Accept: "application/json" }, signal });
      const { events, gap, last_id } = await response.json();
      if (gap) on.gap(gap);
      for (const event of events) on.event(event);
      last = last_id;
      on.state("rests");
    } catch {
      on.state("broken");
    }
    await next;
  }
}

export async function longPolling(url, last, on, signal) {
  while (!signal.aborted) {
    on.state("open");
    try {
      const response = await fetch(`${url}?wait=30s&last_event_id=${last}`, { headers: { Accept: "application/json" }, signal });
      const { events, gap, last_id } = await response.json();
      if (gap) on.gap(gap);
      for (const event of events) on.event(event);
      last = last_id;
    } catch {
      on.state("broken");
      await pause(500, signal);
    }
  }
}

export function serverSentEvents(url, last, on, signal) {
  const source = new EventSource(`${url}?last_event_id=${last}`);
  source.onopen = () => on.state("open");
  source.onmessage = ({ data, lastEventId }) => on.event({ data, id: lastEventId });
  source.addEventListener("tidewire.gap", ({ data }) => on.gap(JSON.parse(data)));
  source.onerror = () => on.state(source.readyState === 2 ? "closed" : "broken"); // broken: it comes back by itself
  signal.addEventListener("abort", () => source.close());
}

export function webSocket(url, last, on, signal) {
  let socket, refused = 0;
  const open = () => {
    if (signal.aborted) return;
    socket = new WebSocket(`${url.replace("http", "ws")}?last_event_id=${last}`);
    socket.onopen = () => {
      refused = 0;
      on.state("open");
    };
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "tidewire.gap") on.gap(JSON.parse(event.data));
      if (event.type.startsWith("tidewire.")) return;
      last = event.id;
      on.event(event);
    };
    socket.onclose = () => { // also after an upgrade that was refused
      refused++;
      on.state(refused < 3 ? "broken" : "refused");
      setTimeout(open, refused < 3 ? 500 : 10_000);
    };
  };
  open();
  signal.addEventListener("abort", () => socket.close());
}

/** Waits until the time is over, or the signal comes. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}

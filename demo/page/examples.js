// The examples. The page shows the text of these functions, so what is shown is what
// runs. Each opens its stream and returns the source, for the page to close.

import { connection, drawPrices, token } from "./view.js";

export function clock() {
  const source = new EventSource("/demo/clock");
  const now = document.querySelector("#clock-now");
  const since = document.querySelector("#clock-since");
  source.addEventListener("connecttime", (event) => {
    since.textContent = new Date(event.data).toLocaleTimeString();
  });
  source.onmessage = (event) => {
    now.textContent = new Date(event.data).toLocaleTimeString();
  };
  return source;
}

export function counter() {
  const source = new EventSource("/events/demo/counter?last=1");
  const count = document.querySelector("#count");
  const at = document.querySelector("#count-time");
  source.onmessage = (event) => {
    const data = JSON.parse(event.data);
    count.textContent = data.count;
    at.textContent = new Date(data.time).toLocaleTimeString();
  };
  return source;
}

export function articles() {
  const url = "/events/demo/articles?since=earliest";
  const source = new EventSource(url);
  const list = document.querySelector("#article-list");
  const empty = () => list.replaceChildren();
  source.onmessage = (event) => {
    let article = null; // what is not JSON is a title
    try { article = JSON.parse(event.data); } catch {}
    const item = document.createElement("li");
    const title = document.createElement("h3");
    const text = document.createElement("p");
    title.textContent = article?.title ?? event.data; // never HTML
    text.textContent = article?.text ?? "";
    item.append(title, text);
    list.prepend(item);
  };
  source.addEventListener("tidewire.gap", empty);
  empty(); // as all that is kept comes again
  return source;
}

export function publish(form) {
  const article = Object.fromEntries(new FormData(form));
  return fetch("/events/demo/articles", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(article),
  });
}

export function types() {
  const url = "/events/demo/types?since=earliest";
  const source = new EventSource(url);
  const prices = new Map();
  source.addEventListener("add", (event) => {
    prices.set(event.data, "");
    drawPrices(prices);
  });
  source.addEventListener("price", (event) => {
    const [fish, price] = event.data.split(" ");
    prices.set(fish, price);
    drawPrices(prices);
  });
  source.addEventListener("remove", (event) => {
    prices.delete(event.data);
    drawPrices(prices);
  });
  drawPrices(prices);
  return source;
}

export function panel() {
  // A new EventSource knows no last id: the URL hands it on.
  const query = { token, last_event_id: connection.lastId };
  const url = "/demo/stream?" + new URLSearchParams(query);
  const source = new EventSource(url);
  source.onopen = () => connection.opened(source.readyState);
  source.onerror = () => connection.failed(source.readyState);
  source.onmessage = (event) => {
    const { count, time } = JSON.parse(event.data);
    connection.received(count, time, event.lastEventId);
  };
  source.addEventListener("tidewire.gap", (event) => {
    connection.gap(event.data, event.lastEventId);
  });
  return source;
}

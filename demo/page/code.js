// The code and the commands that a page shows.

const api = /\b(EventSource|WebSocket|fetch|addEventListener|onmessage|onopen|onerror|onclose|readyState|lastEventId)\b/;
const tokens = new RegExp(`(?<comment>//.*)|(?<string>"[^"]*"|\`[^\`]*\`)|(?<api>${api.source})`, "g");

/** Shows the text of functions, so what is shown is what runs, and lets it be copied. */
export function showCode(functions) {
  for (const pre of document.querySelectorAll(".js")) {
    show(pre, pre.dataset.source.split(" ").map((name) => String(functions[name])).join("\n\n"));
  }
  for (const pre of document.querySelectorAll(".curl")) {
    pre.dataset.text = pre.textContent.replace("{origin}", location.origin);
    pre.textContent = pre.dataset.text.replace("{id}", "…");
  }
  if (!navigator.clipboard) return; // browsers have it on https and localhost only
  for (const pre of document.querySelectorAll(".curl, .js")) addCopy(pre);
}

function show(pre, text) {
  let from = 0;
  for (const match of text.matchAll(tokens)) {
    pre.append(text.slice(from, match.index));
    const span = pre.appendChild(document.createElement("span"));
    span.className = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    span.textContent = match[0];
    from = match.index + match[0].length;
  }
  pre.append(text.slice(from));
}

function addCopy(pre) {
  const box = document.createElement("div");
  box.className = "copybox";
  pre.replaceWith(box);
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the " + pre.getAttribute("aria-label"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  box.append(pre, button);
}

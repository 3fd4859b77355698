// The tool browser: grouped, searched as one types, each tool drawn when it is opened, with a form to try it.
import { $, ask, h } from "./dom.js";
import { formFor } from "./form.js";
import { draw, problem } from "./result.js";

const MAX_DRAWN = 300;
const asked = new Set(); // tools that may run without being asked about again
let all = [];
let unlisted = "";

function badges(tool) {
  const hints = tool.annotations ?? {};
  const found = [];
  if (hints.readOnlyHint === true) found.push(["read-only", "good"]);
  else if (hints.destructiveHint === true) found.push(["destructive", "bad"]);
  if (hints.idempotentHint === true) found.push(["idempotent", ""]);
  if (hints.openWorldHint === true) found.push(["open world", ""]);
  return found.map(([text, tone]) => h("span", { class: `badge ${tone}` }, text));
}

/** Whether a person may run it: a tool that does not say that it only reads or adds counts as destructive. */
function confirmed(tool) {
  const hints = tool.annotations ?? {};
  if (hints.readOnlyHint === true || hints.destructiveHint === false || asked.has(tool.name)) return Promise.resolve(true);
  const dialog = $("confirm");
  $("confirm-text").textContent =
    hints.destructiveHint === true
      ? `${tool.name} says of itself that it may destroy or overwrite things.`
      : `${tool.name} does not say whether it changes anything; it may destroy or overwrite things.`;
  $("confirm-always").checked = false;
  dialog.returnValue = "no";
  return new Promise((resolve) => {
    const closed = () => {
      const yes = dialog.returnValue === "yes";
      if (yes && $("confirm-always").checked) asked.add(tool.name);
      resolve(yes);
    };
    dialog.addEventListener("close", closed, { once: true });
    dialog.showModal();
  });
}

function trial(tool) {
  const form = formFor(tool.inputSchema);
  const output = h("div", { class: "result", role: "status" });
  const run = h("button", { type: "submit", class: "primary" }, "Run");
  const stop = h("button", { type: "button", hidden: true }, "Stop waiting");
  const submit = async (event) => {
    event.preventDefault();
    const values = form.read();
    if (values === null || run.disabled || !(await confirmed(tool))) return;
    const waiting = new AbortController();
    const started = performance.now();
    const tick = () => {
      output.firstElementChild.textContent = `Running, ${Math.floor((performance.now() - started) / 1000)} s`;
    };
    output.replaceChildren(h("p", { class: "outcome", "aria-live": "off" }, "Running"));
    const clock = setInterval(tick, 1000);
    run.disabled = true;
    stop.hidden = false;
    stop.onclick = () => waiting.abort();
    try {
      const body = JSON.stringify({ name: tool.name, arguments: values });
      const headers = { "Content-Type": "application/json" };
      const answer = await ask("/console/api/call", { method: "POST", body, headers, signal: waiting.signal });
      output.replaceChildren(...draw(answer));
    } catch (error) {
      output.replaceChildren(...problem(error.name === "AbortError" ? "No longer waited for; it may have run." : error.message));
    } finally {
      clearInterval(clock);
      run.disabled = false;
      stop.hidden = true;
    }
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
  };
  return h("form", { class: "trial", novalidate: true, submit, keydown: keys }, h("h4", null, "Try it"), form.element, h("div", { class: "buttons" }, run, stop), output);
}

function open(details, tool) {
  if (!details.open || details.dataset.drawn) return;
  details.dataset.drawn = "yes";
  details.append(
    h("p", { class: "description" }, tool.description || "No description."),
    trial(tool),
    h("details", { class: "schema" }, h("summary", null, "Schema"), h("pre", { tabindex: "0" }, JSON.stringify(tool.inputSchema ?? null, null, 2))),
  );
  if (tool.outputSchema) details.append(h("details", { class: "schema" }, h("summary", null, "Output schema"), h("pre", { tabindex: "0" }, JSON.stringify(tool.outputSchema, null, 2))));
}

function item(tool) {
  const { name = "", title } = tool;
  const label = title && title !== name ? h("span", { class: "title" }, title) : null;
  const first = (tool.description ?? "").trim().split("\n", 1)[0];
  const details = h("details", { class: "tool", toggle: () => open(details, tool) }, h("summary", null, h("span", { class: "tool-name" }, name), label, badges(tool), h("span", { class: "brief" }, first)));
  return details;
}

function render() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter(({ text }) => words.every((word) => text.includes(word)));
  const groups = new Map();
  for (const one of found.slice(0, MAX_DRAWN)) {
    if (!groups.has(one.server)) groups.set(one.server, []);
    groups.get(one.server).push(one);
  }
  const parts = [];
  if (unlisted) parts.push(h("p", { class: "problem" }, `The list of tools is not complete: ${unlisted}`));
  if (!found.length) parts.push(h("p", { class: "none" }, all.length ? "No tool matches." : "There are no tools."));
  if (found.length > MAX_DRAWN) parts.push(h("p", null, `The first ${MAX_DRAWN} of ${found.length} are shown. Search to see others.`));
  for (const [server, members] of groups) {
    const heading = h("h3", null, server, " ", h("span", { class: "count" }, members.length));
    parts.push(h("section", { class: "group" }, heading, members.map((one) => (one.element ??= item(one.tool)))));
  }
  $("tool-list").replaceChildren(...parts);
  $("matches").textContent = words.length ? `${found.length} of ${all.length}` : `${all.length} tools`;
}

/** Loads the tools and makes the list live. */
export async function start(servers) {
  const known = new Set(servers);
  const { tools, problem: why } = await ask("/console/api/tools");
  unlisted = why;
  all = tools.map((tool) => {
    const [prefix, rest] = String(tool.name ?? "").split("__", 2);
    const text = [tool.name, tool.title, tool.description].filter(Boolean).join(" ").toLowerCase();
    return { tool, text, server: rest && known.has(prefix) ? prefix : "gateway" };
  });
  $("search-form").addEventListener("submit", (event) => event.preventDefault());
  $("search-form").querySelector("button").hidden = true;
  $("search").addEventListener("input", render);
  render();
}

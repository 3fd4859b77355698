// Makes the page live: polls the status while it is looked at, fills the tool browser, copies configurations.
import { $, ask, h } from "./dom.js";
import { show } from "./fleet.js";
import * as tools from "./tools.js";

const EVERY_MS = 2000;
let timer = null;
let running = false;
let ended = false;

function tell(text, kind) {
  $("live").textContent = text;
  $("live").className = `live ${kind}`;
}

// A request that was under way when the tab was hidden ends when polling rests.
function tellUnlessHidden(text, kind) {
  if (!document.hidden) tell(text, kind);
}

async function poll() {
  if (running || ended || document.hidden) return;
  clearTimeout(timer);
  running = true;
  try {
    show(await ask("/console/api/status"));
    tellUnlessHidden("● live", "good");
  } catch (error) {
    ended = error.status === 401;
    if (ended) $("live").replaceChildren(h("a", { href: "/console" }, "Signed out: sign in again"));
    else tellUnlessHidden(`✕ ${error.message}`, "bad");
  } finally {
    running = false;
    if (!document.hidden && !ended) timer = setTimeout(poll, EVERY_MS);
  }
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
  else if (!ended) tell("paused", "");
});

async function copy(button) {
  const text = button.closest(".client").querySelector("pre").textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text); // there on HTTPS and localhost only
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.closest(".client").querySelector("pre"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => {
    button.textContent = "Copy";
  }, 2000);
}

function offerCopies() {
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.onclick = () => copy(button);
  }
}

async function choose() {
  const server = $("endpoint").value;
  const { url, clients } = await ask(`/console/api/clients?server=${encodeURIComponent(server)}`);
  $("url").textContent = url;
  for (const one of clients) document.querySelector(`[data-client="${one.id}"] pre`).textContent = one.text;
}

offerCopies();
$("endpoint-form").querySelector("button").hidden = true;
$("endpoint-form").addEventListener("submit", (event) => event.preventDefault());
$("endpoint").addEventListener("change", () => choose().catch((error) => tell(`✕ ${error.message}`, "bad")));
const servers = [...document.querySelectorAll("#matrix [data-server]")].map((row) => row.dataset.server);
poll();
tools.start(servers).catch((error) => tell(`✕ ${error.message}`, "bad"));

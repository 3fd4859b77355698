// The health matrix live: draws what fleet.py draws, from the same status, and adds sparklines.
import { $, h, sparkline } from "./dom.js";

const DASH = "–";
const SHAPES = { healthy: "●", degraded: "◐", probation: "◐", draining: "◌", ejected: "✕", down: "✕", asleep: "☾", unknown: "○" };
const LABELS = ["Replicas", "Era", "Queue", "Latency", "Requests", "Offers", "Sessions"];
const HISTORY = 60;

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const digits = (value) => value.toLocaleString("en-US");
const number = (value) => (isNumber(value) ? digits(value) : DASH);
const round = (value) => Math.floor(value + 0.5);

function milliseconds(value) {
  if (!isNumber(value)) return DASH;
  if (value >= 10000) return `${digits(round(value / 1000))} s`;
  return value < 10 ? `${(round(value * 10) / 10).toFixed(1)} ms` : `${digits(round(value))} ms`;
}

function uptime(seconds) {
  if (!isNumber(seconds)) return DASH;
  const [s, m, hours] = [seconds % 60, (seconds / 60) % 60, seconds / 3600].map(Math.floor);
  if (hours >= 24) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

function stateOfReplica(replica) {
  if (Object.hasOwn(SHAPES, replica.state ?? "")) return replica.state;
  return replica.healthy === null || replica.healthy === undefined ? "unknown" : replica.healthy ? "healthy" : "ejected";
}

function stateOfServer(server) {
  if (server.asleep === true) return "asleep";
  const states = (server.replicas ?? []).map(stateOfReplica);
  if (states.every((state) => state === "unknown")) return "unknown";
  if (states.every((state) => state === "healthy")) return "healthy";
  return states.every((state) => state === "ejected" || state === "unknown") ? "down" : "degraded";
}

const state = (name) =>
  h("span", { class: `state ${name}` }, h("span", { "aria-hidden": "true" }, SHAPES[name]), ` ${name}`);

function summary(status) {
  const servers = status.servers ?? [];
  const replicas = servers.flatMap((server) => server.replicas ?? []);
  const healthy = servers.filter((server) => ["healthy", "asleep"].includes(stateOfServer(server))).length;
  const serving = replicas.filter((replica) => stateOfReplica(replica) === "healthy").length;
  const sum = (key) => {
    const known = servers.map((server) => server[key]).filter(isNumber);
    return known.length ? known.reduce((a, b) => a + b, 0) : null;
  };
  const tone = healthy === servers.length ? "good" : healthy === 0 ? "bad" : "warn";
  const tiles = [
    ["Servers healthy", `${healthy} of ${servers.length}`, servers.length ? tone : ""],
    ["Replicas serving", `${serving} of ${replicas.length}`, serving === replicas.length ? "good" : "warn"],
    ["In flight", number(status.inflight), ""],
    ["Requests", number(sum("requests")), ""],
    ["Errors", number(sum("errors")), sum("errors") ? "warn" : ""],
    ["Principals", number(status.principal_count), ""],
    ["Uptime", uptime(status.uptime_seconds), ""],
    ["Gateway", status.draining ? "draining" : "serving", status.draining ? "warn" : "good"],
  ];
  return tiles.map(([label, value, kind]) =>
    h("div", { class: `tile ${kind}`.trim() }, h("dt", null, label), h("dd", null, value)),
  );
}

function replicaChip(replica) {
  const name = stateOfReplica(replica);
  const facts = [milliseconds(replica.latency_ms), `${number(replica.inflight)} in flight`];
  if (replica.breaker) facts.push(`breaker ${replica.breaker}`);
  return h(
    "li",
    { class: `replica ${name}` },
    h("span", { class: "address" }, replica.address || DASH),
    state(name),
    h("span", { class: `facts breaker-${replica.breaker || "none"}` }, facts.join(" · ")),
  );
}

function queue(value) {
  if (!value) return [DASH];
  const full = Boolean(value.places) && (value.running || 0) >= value.places;
  return [
    h("span", { class: full ? "full" : "free" }, `${number(value.running)} / ${number(value.places)}`),
    h("small", { class: value.waiting ? "waiting" : "" }, `${number(value.waiting)} of ${number(value.limit)} waiting`),
  ];
}

function latency(value) {
  if (typeof value !== "object" || value === null) return [h("span", null, milliseconds(value))];
  return [
    h("span", null, milliseconds(value.p50)),
    h("small", null, `p95 ${milliseconds(value.p95)} · p99 ${milliseconds(value.p99)}`),
  ];
}

function nameCell(server) {
  const parts = [state(stateOfServer(server)), h("span", { class: "name" }, server.name ?? "")];
  if (server.pool) parts.push(h("span", { class: "badge" }, `pool ${server.pool}`));
  const changed = server.pins?.changed ?? [];
  if (changed.length) parts.push(h("span", { class: "badge warn" }, `changed: ${changed.join(", ")}`));
  if (server.last_error) parts.push(h("small", { class: "last-error" }, server.last_error));
  return parts;
}

function row(server) {
  const replicas = server.replicas ?? [];
  const cells = [
    replicas.length ? h("ul", { class: "replicas" }, replicas.map(replicaChip)) : DASH,
    h("span", { class: "era" }, server.era || DASH),
    queue(server.queue),
    latency(server.latency_ms),
    [
      h("span", null, number(server.requests)),
      h("small", { class: server.errors ? "failed" : "" }, `${number(server.errors)} failed`),
    ],
    [
      h("span", null, `${number(server.tools)} tools`),
      h("small", null, `${number(server.prompts)} prompts · ${number(server.resources)} resources`),
    ],
    h("span", null, number(server.sessions)),
  ];
  return h(
    "tr",
    { "data-server": server.name ?? "", class: stateOfServer(server) },
    h("th", { scope: "row" }, nameCell(server)),
    cells.map((cell, i) => h("td", { "data-label": LABELS[i] }, cell)),
  );
}

function error(one) {
  const by = [one.principal, one.replica].filter(Boolean);
  return h(
    "li",
    null,
    h("time", { datetime: one.time || "" }, String(one.time || DASH).slice(0, 19).replace("T", " ")),
    h("span", { class: "code" }, one.code ?? DASH),
    h("span", { class: "what" }, [one.server, one.method, one.target].filter(Boolean).join(" ")),
    h("span", { class: "message" }, one.message || DASH),
    h("small", null, by.join(" · ")),
  );
}

const drawn = new Map(); // by place, the status last drawn there: what is the same is left alone, and selections live
const history = new Map(); // server -> latencies, oldest first
const states = new Map(); // server -> state, to tell what changed

function replace(parent, key, data, draw) {
  const text = JSON.stringify(data);
  if (drawn.get(key) === text) return;
  drawn.set(key, text);
  parent.replaceChildren(...draw());
}

function remember(server) {
  const value = isNumber(server.latency_ms) ? server.latency_ms : server.latency_ms?.p50;
  const values = history.get(server.name) ?? [];
  if (isNumber(value)) values.push(value);
  history.set(server.name, values.slice(-HISTORY));
}

/** Draws the status; tells screen readers which servers changed their state. */
export function show(status) {
  const servers = status.servers ?? [];
  replace($("summary"), "summary", { ...status, recent_errors: null }, () => summary(status));
  replace($("error-list"), "errors", status.recent_errors, () => {
    const found = status.recent_errors ?? [];
    return found.length ? found.map(error) : [h("li", { class: "none" }, "No errors lately.")];
  });
  const body = $("matrix");
  const old = new Map([...body.children].map((child) => [child.dataset.server, child]));
  const rows = servers.map((server) => {
    remember(server);
    const key = `row ${server.name}`;
    const text = JSON.stringify(server);
    const same = drawn.get(key) === text && old.get(server.name);
    drawn.set(key, text);
    const current = same || row(server);
    draw(current, server.name);
    return current;
  });
  if (!rows.length) rows.push(h("tr", null, h("td", { colspan: 8 }, "No servers are configured.")));
  if (rows.length !== body.children.length || rows.some((one, i) => body.children[i] !== one)) body.replaceChildren(...rows);
  announce(servers);
}

function draw(current, name) {
  const values = history.get(name);
  current.querySelector(".spark")?.remove();
  if (values.length < 2) return;
  const label = `latency of ${name} lately, from ${milliseconds(Math.min(...values))} to ${milliseconds(Math.max(...values))}`;
  current.querySelector("[data-label=Latency]").append(sparkline(values, label));
}

function announce(servers) {
  const changes = [];
  for (const server of servers) {
    const now = stateOfServer(server);
    if (states.has(server.name) && states.get(server.name) !== now) changes.push(`${server.name} is now ${now}.`);
    states.set(server.name, now);
  }
  if (changes.length) $("changes").textContent = changes.join(" ");
}

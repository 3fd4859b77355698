// Elements from data. Text only ever becomes text nodes: nothing here, or in any other module, parses markup.

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** A sparkline of `values` (numbers, oldest first). */
export function sparkline(values, label) {
  const [width, height] = [72, 18];
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "polyline");
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const share = (value) => (high > low ? (value - low) / (high - low) : 0.5);
  const step = width / Math.max(values.length - 1, 1);
  line.setAttribute(
    "points",
    values.map((value, i) => `${(i * step).toFixed(1)},${(height - 1 - share(value) * (height - 2)).toFixed(1)}`).join(" "),
  );
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "spark");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.append(line);
  return svg;
}

export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** JSON from the console's own paths; throws a Failure that can be shown. */
export async function ask(path, options = {}) {
  const token = document.querySelector("meta[name=console-token]").content;
  let response;
  try {
    response = await fetch(path, { ...options, headers: { "X-Console-Token": token, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The gateway cannot be reached.", 0);
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Failure(`The gateway answered ${response.status} without JSON.`, response.status);
  }
  if (!response.ok) throw new Failure(body.error ?? `The gateway answered ${response.status}.`, response.status);
  return body;
}

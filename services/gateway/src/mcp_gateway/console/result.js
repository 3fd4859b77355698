// What a tool answered, drawn as text, images, sound and JSON.
import { h } from "./dom.js";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const json = (value) => h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2) ?? "");

function content(block) {
  if (typeof block?.text === "string" && block.type === "text") return h("pre", { tabindex: "0", class: "text" }, block.text);
  if (block?.type === "image" && IMAGES.includes(block.mimeType) && /^[A-Za-z0-9+/=\s]*$/.test(block.data ?? "!"))
    return h("img", { src: `data:${block.mimeType};base64,${block.data}`, alt: "image in the result" });
  if (block?.type === "resource" && typeof block.resource?.text === "string")
    return h("figure", null, h("figcaption", null, block.resource.uri ?? "resource"), h("pre", { tabindex: "0", class: "text" }, block.resource.text));
  if (block?.type === "resource_link") return h("p", null, `Resource: ${block.name ?? ""} ${block.uri ?? ""}`);
  return json(block);
}

function heading(kind, text, milliseconds) {
  const time = milliseconds === undefined ? null : h("span", { class: "duration" }, `${milliseconds.toLocaleString("en-US")} ms`);
  return h("p", { class: `outcome ${kind}` }, h("span", { class: "state" }, text), time);
}

/** The elements for an answer of /console/api/call. */
export function draw(answer) {
  const { result, error, duration_ms: duration } = answer;
  if (error) {
    const parts = [heading("bad", `✕ Error ${error.code ?? ""}`.trim(), duration), h("p", { class: "message" }, error.message ?? "")];
    return error.data === null || error.data === undefined ? parts : [...parts, json(error.data)];
  }
  if (result?.resultType === "input_required")
    return [heading("warn", "◐ The tool asks for input, which this page cannot give", duration), json(result)];
  const failed = result?.isError === true;
  const parts = [heading(failed ? "bad" : "good", failed ? "✕ The tool reports an error" : "● Done", duration)];
  const blocks = Array.isArray(result?.content) ? result.content : [];
  parts.push(...blocks.map(content));
  if (result?.structuredContent !== undefined) parts.push(h("h5", null, "Structured"), json(result.structuredContent));
  if (!blocks.length && result?.structuredContent === undefined) parts.push(json(result));
  return parts;
}

export const problem = (text) => [heading("bad", "✕ Not run"), h("p", { class: "message" }, text)];

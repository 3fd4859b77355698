// A form from a JSON Schema: one field per property; what no plain field can hold is entered as JSON.
import { h } from "./dom.js";

const SIMPLE = ["string", "number", "integer", "boolean"];
const MAX_ALTERNATIVES = 50;
let serial = 0;

/** The schema with a local reference followed and `X or null` reduced to X. */
function plain(schema, root) {
  let current = schema;
  for (let depth = 0; depth < 8 && current && typeof current === "object"; depth++) {
    if (typeof current.$ref === "string" && current.$ref.startsWith("#/")) {
      let target = root;
      for (const part of current.$ref.slice(2).split("/")) {
        const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
        target = target && typeof target === "object" && Object.hasOwn(target, name) ? target[name] : undefined;
      }
      const { $ref, ...rest } = current;
      current = target && typeof target === "object" ? { ...target, ...rest } : rest;
      continue;
    }
    const choices = current.anyOf ?? current.oneOf;
    if (Array.isArray(choices)) {
      const real = choices.filter((one) => one?.type !== "null");
      if (real.length !== 1 || real.length === choices.length) break;
      const { anyOf, oneOf, ...rest } = current;
      current = { ...real[0], ...rest };
      continue;
    }
    if (Array.isArray(current.type)) {
      const real = current.type.filter((one) => one !== "null");
      if (real.length === 1) current = { ...current, type: real[0] };
    }
    break;
  }
  return current && typeof current === "object" ? current : {};
}

function kindOf(schema, root) {
  if (Array.isArray(schema.enum) && schema.enum.length && schema.enum.length <= MAX_ALTERNATIVES) return "choice";
  if ("const" in schema) return "choice";
  if (SIMPLE.includes(schema.type)) return schema.type;
  if (schema.type === "array" && !Array.isArray(schema.items)) {
    const items = plain(schema.items, root);
    if (["string", "number", "integer", "choice"].includes(kindOf(items, root))) return "list";
  }
  return "json";
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

class Wrong extends Error {}

/** Each maker gives {element, read}: `read` returns the value, undefined where nothing was entered, or throws Wrong. */
const MAKERS = {
  choice(schema, attributes) {
    const values = schema.enum ?? [schema.const];
    const options = values.map((value, i) => h("option", { value: i }, shown(value)));
    const element = h("select", attributes, h("option", { value: "" }, "– not set –"), options);
    return { element, read: () => (element.value === "" ? undefined : values[Number(element.value)]) };
  },
  boolean(_schema, attributes) {
    const options = ["true", "false"].map((value) => h("option", { value }, value));
    const element = h("select", attributes, h("option", { value: "" }, "– not set –"), options);
    return { element, read: () => (element.value === "" ? undefined : element.value === "true") };
  },
  string(schema, attributes) {
    const element = h("textarea", { ...attributes, rows: 1, spellcheck: "false", placeholder: hint(schema) });
    const read = () => {
      const text = element.value;
      if (text === "") return undefined;
      if (text.length < (schema.minLength ?? 0)) throw new Wrong(`at least ${schema.minLength} characters`);
      if (text.length > (schema.maxLength ?? Infinity)) throw new Wrong(`at most ${schema.maxLength} characters`);
      return text;
    };
    return { element, read };
  },
  number(schema, attributes) {
    const element = h("input", { ...attributes, type: "text", inputmode: "decimal", autocomplete: "off", placeholder: hint(schema) });
    const read = () => {
      const text = element.value.trim();
      if (text === "") return undefined;
      const value = Number(text);
      if (!Number.isFinite(value)) throw new Wrong("not a number");
      if (schema.type === "integer" && !Number.isSafeInteger(value)) throw new Wrong("not a whole number");
      if (value < (schema.minimum ?? -Infinity)) throw new Wrong(`at least ${schema.minimum}`);
      if (value > (schema.maximum ?? Infinity)) throw new Wrong(`at most ${schema.maximum}`);
      if (value <= (schema.exclusiveMinimum ?? -Infinity)) throw new Wrong(`more than ${schema.exclusiveMinimum}`);
      if (value >= (schema.exclusiveMaximum ?? Infinity)) throw new Wrong(`less than ${schema.exclusiveMaximum}`);
      return value;
    };
    return { element, read };
  },
  list(schema, attributes, root) {
    const items = plain(schema.items, root);
    const rows = h("div", { class: "items" });
    const fields = new Map();
    const name = attributes["data-name"];
    const add = (focus) => {
      const field = make(items, { id: `field-${++serial}`, "aria-label": `${name}, an item` }, root);
      const remove = () => {
        fields.delete(line);
        line.remove();
        button.focus();
      };
      const line = h("div", { class: "item" }, field.element, h("button", { type: "button", "aria-label": `Remove this item of ${name}`, click: remove }, "×"));
      fields.set(line, field);
      rows.append(line);
      if (focus) field.element.focus();
    };
    const button = h("button", { type: "button", id: attributes.id, "aria-describedby": attributes["aria-describedby"], click: () => add(true) }, "Add item");
    const read = () => {
      const values = [...fields.values()].map((field) => field.read()).filter((value) => value !== undefined);
      if (!values.length) return undefined;
      return values;
    };
    return { element: h("div", { class: "list" }, rows, button), read };
  },
  json(schema, attributes) {
    const rows = schema.type === "object" || schema.type === "array" ? 3 : 1;
    const element = h("textarea", { ...attributes, rows, class: "code", spellcheck: "false", placeholder: hint(schema) || "JSON" });
    const read = () => {
      const text = element.value.trim();
      if (text === "") return undefined;
      let value;
      try {
        value = JSON.parse(text);
      } catch (error) {
        throw new Wrong(`no valid JSON: ${error.message}`);
      }
      if (schema.type === "array" && !Array.isArray(value)) throw new Wrong("not a JSON array");
      if (schema.type === "object" && (typeof value !== "object" || value === null || Array.isArray(value))) throw new Wrong("not a JSON object");
      return value;
    };
    return { element, read };
  },
};
MAKERS.integer = MAKERS.number;

const hint = (schema) => (schema.default === undefined || schema.default === null ? "" : `default: ${shown(schema.default)}`);

const make = (schema, attributes, root) => MAKERS[kindOf(schema, root)](schema, attributes, root);

function describe(schema, kind, root) {
  const type = kind === "list" ? `list of ${plain(schema.items, root).type ?? "values"}` : kind === "json" ? (schema.type ?? "any JSON") : kind;
  const limits = [];
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (low !== undefined) limits.push(`from ${low}`);
  if (high !== undefined) limits.push(`to ${high}`);
  if (typeof schema.format === "string") limits.push(schema.format);
  return [type, limits.join(" ")].filter(Boolean).join(", ");
}

/**
 * A form for `schema`: {element, read, json}. `read` gives the arguments, or null after marking what is wrong.
 */
export function formFor(schema) {
  const root = schema ?? {};
  const top = plain(root, root);
  const required = new Set(Array.isArray(top.required) ? top.required : []);
  const fields = [];
  const elements = Object.entries(top.properties ?? {}).map(([name, property]) => {
    const own = plain(property, root);
    const kind = kindOf(own, root);
    const id = `field-${++serial}`;
    const attributes = { id, "data-name": name, "aria-describedby": `${id}-help ${id}-wrong`, "aria-required": required.has(name) ? "true" : null };
    const field = make(own, attributes, root);
    const wrong = h("p", { class: "wrong", id: `${id}-wrong`, role: "alert" });
    fields.push({ name, field, wrong, control: field.element, needed: required.has(name), kind });
    return h(
      "div",
      { class: "field" },
      h("label", { for: id }, name, required.has(name) ? h("span", { class: "required" }, " required") : null, h("span", { class: "type" }, describe(own, kind, root))),
      field.element,
      h("p", { class: "help", id: `${id}-help` }, typeof own.description === "string" ? own.description : ""),
      wrong,
    );
  });

  const check = ({ name, field, wrong, control, needed, kind }) => {
    let value;
    let problem = "";
    try {
      value = field.read();
      if (value === undefined && needed) {
        if (kind === "string" && !(plain(top.properties[name], root).minLength > 0)) value = "";
        else if (kind === "list") value = [];
        else problem = "required";
      }
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      problem = error.message;
    }
    wrong.textContent = problem && `${name}: ${problem}`;
    control.toggleAttribute("data-wrong", Boolean(problem));
    if (problem) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    return { value, problem };
  };
  for (const field of fields) field.control.addEventListener("change", () => check(field));

  const read = () => {
    const values = {};
    let first = null;
    for (const field of fields) {
      const { value, problem } = check(field);
      if (problem) first ??= field.control;
      else if (value !== undefined) Object.defineProperty(values, field.name, { value, enumerable: true });
    }
    first?.focus();
    return first ? null : values;
  };
  const element = h("div", { class: "fields" }, elements.length ? elements : h("p", { class: "none" }, "It takes no arguments."));
  return { element, read };
}

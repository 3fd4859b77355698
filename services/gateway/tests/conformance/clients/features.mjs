// Runs features one by one and prints, as JSON, which worked: {feature: "ok" or what went wrong}.
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

export const target = JSON.parse(process.argv[2]);
export const name = (own) => target.prefix + own;
export const uri = (own) => target.scheme + own;
const SECONDS = 15;
const LEVELS = ["warning", "error", "critical", "alert", "emergency"]; // what a client that set "warning" wants to see

const require = createRequire(path.join(target.modules, "_"));
export const load = (specifier) => import(pathToFileURL(require.resolve(specifier)));

const outcomes = {};

// Run one feature and note its outcome.
export async function check(feature, run) {
  const limit = new AbortController();
  const late = sleep(2 * SECONDS * 1000, undefined, { signal: limit.signal, ref: false }).then(
    () => Promise.reject(new Error("it takes too long")),
    () => {},
  );
  try {
    await Promise.race([run(), late]);
    outcomes[feature] = "ok";
  } catch (error) {
    outcomes[feature] = String(error.stack ?? error).slice(0, 600);
  } finally {
    limit.abort();
  }
}

export function print() {
  console.log(JSON.stringify(outcomes));
}

// Wait for a condition; fail when it does not come.
export async function until(condition, what) {
  for (let turn = 0; turn < SECONDS * 50; turn++) {
    if (condition()) return;
    await sleep(20);
  }
  assert.fail(`${what} did not come`);
}

export const answers = {
  sample: (params) => {
    const [{ content }] = params.messages;
    const { text } = Array.isArray(content) ? content[0] : content;
    return { role: "assistant", content: { type: "text", text: `heard ${text}` }, model: "none" };
  },
  elicit: (params) => {
    if (params.mode === "url") return { action: "accept" };
    const fields = Object.keys(params.requestedSchema.properties);
    return { action: "accept", content: Object.fromEntries(fields.map((field) => [field, "filled"])) };
  },
  roots: () => ({ roots: [{ uri: "file:///root/of/the/client" }] }),
};

// Every entry of a list, page by page.
async function all(list, key) {
  const found = [];
  let cursor;
  for (let page = 0; page < 50; page++) {
    const got = await list(cursor === undefined ? {} : { cursor });
    found.push(...got[key]);
    cursor = got.nextCursor;
    if (cursor === undefined) return found;
  }
  return assert.fail("the pages do not end");
}

// What both lines of the SDK have in common. ``seen`` holds ``logged`` levels; the rest is what differs:
// ``call(params, options)``, ``level(level)``, ``changed()`` and ``updated(uri, trigger)``.
export async function features(client, seen, { call, level, changed, updated }) {
  const text = async (tool, given = {}, options = {}) => {
    const result = await call({ name: name(tool), arguments: given }, options);
    assert.ok(!result.isError, JSON.stringify(result.content));
    return result.content[0].text;
  };
  await check("list_tools", async () => {
    const names = (await all((params) => client.listTools(params), "tools")).map((tool) => tool.name);
    for (const own of ["test_simple_text", "test_trigger_resource_update"]) assert.ok(names.includes(name(own)), own);
  });
  await check("call", async () => assert.match(await text("test_simple_text"), /simple text/));
  await check("error_result", async () => {
    const result = await call({ name: name("test_error_handling"), arguments: {} });
    assert.equal(result.isError, true);
    assert.match(result.content[0].text, /intentionally/);
  });
  await check("progress", async () => {
    const steps = [];
    await text("test_tool_with_progress", {}, { onprogress: ({ progress }) => steps.push(progress) });
    assert.deepEqual(steps, [0, 50, 100]);
  });
  await check("logging", async () => {
    const options = await level("warning");
    await call({ name: name("test_logging_tool"), arguments: {}, ...options });
    await until(() => seen.logged.length >= LEVELS.length, "five log messages");
    assert.deepEqual(seen.logged, LEVELS);
  });
  await check("resources", async () => {
    const listed = await all((params) => client.listResources(params), "resources");
    assert.ok(listed.some((resource) => resource.uri === uri("test://static-text")));
    const templates = await all((params) => client.listResourceTemplates(params), "resourceTemplates");
    assert.ok(templates.some((template) => template.uriTemplate === uri("test://template/{id}/data")));
  });
  await check("read", async () => {
    for (const [own, part] of [
      ["test://static-text", "static text"],
      ["test://template/7/data", "Data for ID: 7"],
    ]) {
      const [contents] = (await client.readResource({ uri: uri(own) })).contents;
      assert.ok(contents.text.includes(part), contents.text);
      assert.equal(contents.uri, uri(own));
    }
    const [binary] = (await client.readResource({ uri: uri("test://static-binary") })).contents;
    assert.equal(binary.mimeType, "image/png");
  });
  await check("read_unknown", async () => {
    await assert.rejects(client.readResource({ uri: uri("test://nowhere") }), ({ code }) =>
      [-32602, ...(target.mode === "legacy" ? [-32002] : [])].includes(code),
    );
  });
  await check("prompts", async () => {
    const listed = await all((params) => client.listPrompts(params), "prompts");
    assert.ok(listed.some((prompt) => prompt.name === name("test_prompt_with_arguments")));
    const given = { name: name("test_prompt_with_arguments"), arguments: { arg1: "one", arg2: "two" } };
    assert.match((await client.getPrompt(given)).messages[0].content.text, /arg2='two'/);
  });
  await check("completion", async () => {
    const prompt = { type: "ref/prompt", name: name("test_prompt_with_arguments") };
    const words = await client.complete({ ref: prompt, argument: { name: "arg1", value: "par" } });
    assert.deepEqual(words.completion.values, ["paris", "park", "party"]);
    const template = { type: "ref/resource", uri: uri("test://template/{id}/data") };
    const ids = await client.complete({ ref: template, argument: { name: "id", value: "pari" } });
    assert.deepEqual(ids.completion.values, ["paris"]);
  });
  await check("sampling", async () => {
    assert.match(await text("test_sampling", { prompt: "the question" }), /heard the question/);
  });
  await check("elicitation_form", async () => {
    assert.match(await text("test_elicitation", { message: "who" }), /filled/);
  });
  await check("elicitation_url", async () => assert.match(await text("test_elicitation_url"), /accept/));
  await check("roots", async () => assert.match(await text("test_roots"), /file:\/\/\/root\/of\/the\/client/));
  await check("several_questions", () => text("test_input_required_result_multi_round"));
  await check("prompt_that_asks", async () => {
    const got = await client.getPrompt({ name: name("test_input_required_result_prompt") });
    assert.match(JSON.stringify(got.messages), /filled/);
  });
  await check("cancellation", async () => {
    const directory = path.join(target.directory, "held");
    mkdirSync(directory);
    const cancel = new AbortController();
    const running = text("hold", { directory }, { signal: cancel.signal }).catch(() => {});
    await until(() => existsSync(path.join(directory, "started")), "the beginning of the call");
    cancel.abort("enough");
    await running;
    await until(() => existsSync(path.join(directory, "cancelled")), "the cancellation at the server");
  });
  await check("lists_changed", async () => {
    await changed(() => text("test_trigger_tool_change"));
    const names = (await all((params) => client.listTools(params), "tools")).map((tool) => tool.name);
    assert.ok(names.includes(name("test_dynamic_tool")), names.join());
    await text("test_trigger_tool_change");
  });
  await check("resource_updated", async () => {
    const own = "test://watched-resource";
    const told = await updated(uri(own), () => text("test_trigger_resource_update", { uri: own }));
    assert.deepEqual([...new Set(told)], [uri(own)]);
  });
  if (target.mode === "legacy") await check("ping", () => client.ping());
}

// A session that was ended is unknown afterwards.
export async function ended(session, version) {
  const response = await fetch(target.url, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      "Mcp-Session-Id": session,
      "MCP-Protocol-Version": version,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
  });
  assert.equal(response.status, 404);
}

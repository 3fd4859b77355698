// The official TypeScript client 2.x with all that it can, in either era: typescript2.mjs TARGET
import assert from "node:assert/strict";
import { answers, check, ended, features, load, print, target, until } from "./features.mjs";

const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");

const LOG_LEVEL = "io.modelcontextprotocol/logLevel";
const modern = target.mode !== "legacy";
const seen = { logged: [], changed: 0, updated: [] };

async function connect() {
  const client = new Client(
    { name: "test", version: "1" },
    {
      capabilities: { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} },
      versionNegotiation: { mode: modern ? { pin: target.mode } : "legacy" },
    },
  );
  client.setRequestHandler("sampling/createMessage", ({ params }) => answers.sample(params));
  client.setRequestHandler("elicitation/create", ({ params }) => answers.elicit(params));
  client.setRequestHandler("roots/list", () => answers.roots());
  client.setNotificationHandler("notifications/message", ({ params }) => {
    if (params.logger === "levels") seen.logged.push(params.level);
  });
  client.setNotificationHandler("notifications/tools/list_changed", () => void seen.changed++);
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => {
    seen.updated.push(params.uri);
  });
  const transport = new StreamableHTTPClientTransport(new URL(target.url));
  await client.connect(transport);
  assert.equal(client.getProtocolEra(), modern ? "modern" : "legacy");
  return { client, transport };
}

let session, version;
await check("session", async () => {
  const { client, transport } = await connect();
  ({ sessionId: session, protocolVersion: version } = transport);
  await features(client, seen, {
    call: (params, options) => client.callTool(params, options),
    level: async (level) => {
      if (modern) return { _meta: { [LOG_LEVEL]: level } };
      await client.setLoggingLevel(level);
    },
    changed: async (trigger) => {
      const before = seen.changed;
      const subscription = modern ? await client.listen({ toolsListChanged: true }) : null;
      await trigger();
      await until(() => seen.changed > before, "tools/list_changed");
      await subscription?.close();
    },
    updated: async (uri, trigger) => {
      const subscription = modern ? await client.listen({ resourceSubscriptions: [uri] }) : null;
      if (!modern) await client.subscribeResource({ uri });
      await trigger();
      await until(() => seen.updated.length > 0, "resources/updated");
      await subscription?.close();
      if (!modern) await client.unsubscribeResource({ uri });
      return seen.updated;
    },
  });
  if (!modern) await transport.terminateSession();
  await client.close();
});
if (!modern) await check("end", () => ended(session, version));
await check("reconnect", async () => {
  const { client } = await connect();
  await client.listTools();
  await client.close();
});
print();
process.exit(0);

// The official TypeScript client 1.x with all that it can: typescript1.mjs TARGET
import { answers, check, ended, features, load, print, target, until } from "./features.mjs";

const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
const types = await load("@modelcontextprotocol/sdk/types.js");

const seen = { logged: [], changed: 0, updated: [] };

async function connect() {
  const capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };
  const client = new Client({ name: "test", version: "1" }, { capabilities });
  client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => answers.sample(params));
  client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => answers.elicit(params));
  client.setRequestHandler(types.ListRootsRequestSchema, () => answers.roots());
  client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => {
    if (params.logger === "levels") seen.logged.push(params.level);
  });
  client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => void seen.changed++);
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, ({ params }) => {
    seen.updated.push(params.uri);
  });
  const transport = new StreamableHTTPClientTransport(new URL(target.url));
  await client.connect(transport);
  return { client, transport };
}

let session, version;
await check("session", async () => {
  const { client, transport } = await connect();
  ({ sessionId: session, protocolVersion: version } = transport);
  await features(client, seen, {
    call: (params, options) => client.callTool(params, undefined, options),
    level: async (level) => void (await client.setLoggingLevel(level)),
    changed: async (trigger) => {
      const before = seen.changed;
      await trigger();
      await until(() => seen.changed > before, "tools/list_changed");
    },
    updated: async (uri, trigger) => {
      await client.subscribeResource({ uri });
      await trigger();
      await until(() => seen.updated.length > 0, "resources/updated");
      await client.unsubscribeResource({ uri });
      return seen.updated;
    },
  });
  await transport.terminateSession();
  await client.close();
});
await check("end", () => ended(session, version));
await check("reconnect", async () => {
  const { client } = await connect();
  await client.listTools();
  await client.close();
});
print();
process.exit(0);

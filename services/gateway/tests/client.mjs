// The official TypeScript client: lists tools, calls one, with progress. client.mjs URL TOOL ARGUMENTS
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, tool, args] = process.argv.slice(2);
const client = new Client({ name: "test", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
const progress = [];
const result = await client.callTool({ name: tool, arguments: JSON.parse(args) }, undefined, {
  onprogress: (each) => progress.push(each.progress),
});
console.log(JSON.stringify({ tools: tools.map((each) => each.name), text: result.content[0].text, progress }));
await client.close();

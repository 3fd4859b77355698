"""The official Python client 1.x with all that it can: python1.py TARGET."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
from features import LEVELS, Report, Target, contains, same, until
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl

target, report = Target(), Report()
logged: list[str] = []
messages: list[Any] = []
requests: list[httpx.Request] = []


async def on_sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text=f"heard {params.messages[0].content.text}")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


async def on_elicit(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    if isinstance(params, types.ElicitRequestURLParams):
        return types.ElicitResult(action="accept")
    return types.ElicitResult(action="accept", content=dict.fromkeys(params.requestedSchema["properties"], "filled"))


async def on_roots(_context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///root/of/the/client")])


async def on_log(params: types.LoggingMessageNotificationParams) -> None:
    if params.logger == "levels":
        logged.append(params.level)


async def on_message(message: Any) -> None:
    if isinstance(message, types.ServerNotification):
        messages.append(message.root)


async def on_request(request: httpx.Request) -> None:
    requests.append(request)


async def all_of(listing: Any, key: str) -> list[Any]:
    found, cursor, pages = [], None, 0
    while True:
        page = await listing(params=types.PaginatedRequestParams(cursor=cursor))
        pages += 1
        found += getattr(page, key)
        cursor = page.nextCursor
        if cursor is None:
            return found
        assert pages < 50, "the pages do not end"


def told(kind: str) -> int:
    return sum(1 for message in messages if message.method == kind)


async def use(client: ClientSession) -> None:
    async def call(tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        result = await client.call_tool(target.name(tool), arguments or {}, **options)
        assert not result.isError, result.content
        return str(result.content[0].text)

    async def tools() -> None:
        names = {tool.name for tool in await all_of(client.list_tools, "tools")}
        contains(names, target.name("test_simple_text"))
        contains(names, target.name("test_trigger_resource_update"))

    async def simple() -> None:
        contains(await call("test_simple_text"), "simple text")

    async def error() -> None:
        result = await client.call_tool(target.name("test_error_handling"), {})
        same(result.isError, True)
        contains(result.content[0].text, "intentionally")

    async def progress() -> None:
        seen: list[float] = []

        async def note(value: float, total: float | None, message: str | None) -> None:
            seen.append(value)

        await call("test_tool_with_progress", progress_callback=note)
        same(seen, [0, 50, 100])

    async def logging() -> None:
        await client.set_logging_level("warning")
        await call("test_logging_tool")
        await until(lambda: len(logged) >= len(LEVELS), "five log messages")
        same(logged, LEVELS)

    async def resources() -> None:
        uris = {str(resource.uri) for resource in await all_of(client.list_resources, "resources")}
        contains(uris, target.uri("test://static-text"))
        listed = await all_of(client.list_resource_templates, "resourceTemplates")
        contains({template.uriTemplate for template in listed}, target.uri("test://template/{id}/data"))

    async def read() -> None:
        for own, part in (("test://static-text", "static text"), ("test://template/7/data", "Data for ID: 7")):
            contents = (await client.read_resource(AnyUrl(target.uri(own)))).contents[0]
            contains(contents.text, part)
            same(str(contents.uri), target.uri(own))
        binary = await client.read_resource(AnyUrl(target.uri("test://static-binary")))
        same(binary.contents[0].mimeType, "image/png")

    async def read_unknown() -> None:
        try:
            await client.read_resource(AnyUrl(target.uri("test://nowhere")))
        except McpError as failure:
            contains((-32602, -32002), failure.error.code)
        else:
            raise AssertionError("an unknown resource was read")

    async def prompts() -> None:
        names = {prompt.name for prompt in await all_of(client.list_prompts, "prompts")}
        contains(names, target.name("test_prompt_with_arguments"))
        got = await client.get_prompt(target.name("test_prompt_with_arguments"), {"arg1": "one", "arg2": "two"})
        contains(got.messages[0].content.text, "arg2='two'")

    async def completion() -> None:
        prompt = types.PromptReference(type="ref/prompt", name=target.name("test_prompt_with_arguments"))
        found = await client.complete(prompt, {"name": "arg1", "value": "par"})
        same(found.completion.values, ["paris", "park", "party"])
        template = types.ResourceTemplateReference(type="ref/resource", uri=target.uri("test://template/{id}/data"))
        same((await client.complete(template, {"name": "id", "value": "pari"})).completion.values, ["paris"])

    async def sampling() -> None:
        contains(await call("test_sampling", {"prompt": "the question"}), "heard the question")

    async def elicitation_form() -> None:
        contains(await call("test_elicitation", {"message": "who"}), "filled")

    async def elicitation_url() -> None:
        contains(await call("test_elicitation_url"), "accept")

    async def roots() -> None:
        contains(await call("test_roots"), "file:///root/of/the/client")

    async def several_questions() -> None:
        await call("test_input_required_result_multi_round")

    async def prompt_that_asks() -> None:
        got = await client.get_prompt(target.name("test_input_required_result_prompt"))
        contains(str(got.messages[0].content), "filled")

    async def cancellation() -> None:
        directory = target.directory / "held"
        directory.mkdir()
        identity = client._request_id  # the id that the next request gets: this SDK has no cancellation of its own
        running = asyncio.ensure_future(call("hold", {"directory": str(directory)}))
        await until((directory / "started").exists, "the beginning of the call")
        params = types.CancelledNotificationParams(requestId=identity)
        notification = types.CancelledNotification(method="notifications/cancelled", params=params)
        await client.send_notification(types.ClientNotification(notification))
        await until((directory / "cancelled").exists, "the cancellation at the server")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def lists_changed() -> None:
        await call("test_trigger_tool_change")
        await until(lambda: told("notifications/tools/list_changed"), "tools/list_changed")
        contains({tool.name for tool in await all_of(client.list_tools, "tools")}, target.name("test_dynamic_tool"))
        await call("test_trigger_tool_change")

    async def updated() -> None:
        own = "test://watched-resource"
        await client.subscribe_resource(AnyUrl(target.uri(own)))
        await call("test_trigger_resource_update", {"uri": own})
        await until(lambda: told("notifications/resources/updated"), "resources/updated")
        found = {str(m.params.uri) for m in messages if m.method == "notifications/resources/updated"}
        same(found, {target.uri(own)})
        await client.unsubscribe_resource(AnyUrl(target.uri(own)))

    async def ping() -> None:
        await client.send_ping()

    await report.check("list_tools", tools)
    await report.check("call", simple)
    await report.check("error_result", error)
    await report.check("progress", progress)
    await report.check("logging", logging)
    await report.check("resources", resources)
    await report.check("read", read)
    await report.check("read_unknown", read_unknown)
    await report.check("prompts", prompts)
    await report.check("completion", completion)
    await report.check("sampling", sampling)
    await report.check("elicitation_form", elicitation_form)
    await report.check("elicitation_url", elicitation_url)
    await report.check("roots", roots)
    await report.check("several_questions", several_questions)
    await report.check("prompt_that_asks", prompt_that_asks)
    await report.check("cancellation", cancellation)
    await report.check("lists_changed", lists_changed)
    await report.check("resource_updated", updated)
    await report.check("ping", ping)


async def connect(http: httpx.AsyncClient, run: Any) -> None:
    async with (
        streamable_http_client(target.url, http_client=http) as (read, write, _),
        ClientSession(
            read,
            write,
            read_timeout_seconds=timedelta(seconds=20),
            sampling_callback=on_sample,
            elicitation_callback=on_elicit,
            list_roots_callback=on_roots,
            logging_callback=on_log,
            message_handler=on_message,
        ) as client,
    ):
        await client.initialize()
        await run(client)


async def main() -> None:
    async with httpx.AsyncClient(timeout=30, event_hooks={"request": [on_request]}) as http:

        async def lists(client: ClientSession) -> None:
            assert (await client.list_tools()).tools

        async def ended() -> None:
            sent = [request for request in requests if request.method == "DELETE"]
            assert sent, "the client did not end its session"
            headers = {k: v for k, v in sent[0].headers.items() if k.startswith("mcp-")}
            headers["accept"] = "application/json, text/event-stream"
            body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            same((await http.post(target.url, json=body, headers=headers)).status_code, 404)

        await report.check("session", lambda: connect(http, use))
        await report.check("reconnect", lambda: connect(http, lists))
        await report.check("end", ended)


asyncio.run(main())
report.print()

"""The official Python client 2.x with all that it can: python2.py TARGET."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import httpx2
from features import LEVELS, Report, Target, contains, same, until
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CreateMessageResult,
    ElicitRequestURLParams,
    ElicitResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    Root,
    TextContent,
)

warnings.simplefilter("ignore")
target, report = Target(), Report()
modern = target.mode != "legacy"
logged: list[str] = []
messages: list[Any] = []
requests: list[httpx2.Request] = []


async def on_sample(_context: Any, params: Any) -> CreateMessageResult:
    asked = params.messages[0].content
    return CreateMessageResult(role="assistant", content=TextContent(text=f"heard {asked.text}"), model="none")


async def on_elicit(_context: Any, params: Any) -> ElicitResult:
    if isinstance(params, ElicitRequestURLParams):
        return ElicitResult(action="accept")
    return ElicitResult(action="accept", content=dict.fromkeys(params.requested_schema["properties"], "filled"))


async def on_roots(_context: Any) -> ListRootsResult:
    return ListRootsResult(roots=[Root(uri="file:///root/of/the/client")])


async def on_log(params: Any) -> None:
    if params.logger == "levels":
        logged.append(params.level)


async def on_message(message: Any) -> None:
    messages.append(message)


async def on_request(request: httpx2.Request) -> None:
    requests.append(request)


async def all_of(listing: Any, key: str) -> list[Any]:
    found, cursor, pages = [], None, 0
    while True:
        page = await listing(cursor=cursor)
        pages += 1
        found += getattr(page, key)
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert pages < 50, "the pages do not end"


def told(kind: str) -> int:
    return sum(1 for message in messages if getattr(message, "method", "") == kind)


async def use(client: Client) -> None:
    def text(result: Any) -> str:
        return str(result.content[0].text)

    async def call(tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        result = await client.call_tool(target.name(tool), arguments or {}, **options)
        assert not result.is_error, text(result)
        return text(result)

    async def tools() -> None:
        names = {tool.name for tool in await all_of(client.list_tools, "tools")}
        contains(names, target.name("test_simple_text"))
        contains(names, target.name("test_trigger_resource_update"))

    async def error() -> None:
        result = await client.call_tool(target.name("test_error_handling"), {})
        same(result.is_error, True)
        contains(text(result), "intentionally")

    async def progress() -> None:
        seen: list[float] = []

        async def note(value: float, total: float | None, message: str | None) -> None:
            seen.append(value)

        await call("test_tool_with_progress", progress_callback=note)
        same(seen, [0, 50, 100])

    async def logging() -> None:
        if not modern:
            await client.set_logging_level("warning")
        await call("test_logging_tool")
        await until(lambda: len(logged) >= len(LEVELS), "five log messages")
        same(logged, LEVELS)

    async def resources() -> None:
        uris = {str(resource.uri) for resource in await all_of(client.list_resources, "resources")}
        contains(uris, target.uri("test://static-text"))
        listed = await all_of(client.list_resource_templates, "resource_templates")
        contains({template.uri_template for template in listed}, target.uri("test://template/{id}/data"))

    async def read() -> None:
        for own, part in (("test://static-text", "static text"), ("test://template/7/data", "Data for ID: 7")):
            contents = (await client.read_resource(target.uri(own))).contents[0]
            contains(contents.text, part)
            same(str(contents.uri), target.uri(own))
        same((await client.read_resource(target.uri("test://static-binary"))).contents[0].mime_type, "image/png")

    async def read_unknown() -> None:
        try:
            await client.read_resource(target.uri("test://nowhere"))
        except MCPError as failure:
            contains((-32602,) if modern else (-32602, -32002), failure.error.code)
        else:
            raise AssertionError("an unknown resource was read")

    async def prompts() -> None:
        names = {prompt.name for prompt in await all_of(client.list_prompts, "prompts")}
        contains(names, target.name("test_prompt_with_arguments"))
        got = await client.get_prompt(target.name("test_prompt_with_arguments"), {"arg1": "one", "arg2": "two"})
        contains(got.messages[0].content.text, "arg2='two'")

    async def completion() -> None:
        reference = PromptReference(name=target.name("test_prompt_with_arguments"))
        found = await client.complete(reference, {"name": "arg1", "value": "par"})
        same(found.completion.values, ["paris", "park", "party"])
        template = ResourceTemplateReference(uri=target.uri("test://template/{id}/data"))
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
        running = asyncio.ensure_future(call("hold", {"directory": str(directory)}))
        await until((directory / "started").exists, "the beginning of the call")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until((directory / "cancelled").exists, "the cancellation at the server")

    async def lists_changed() -> None:
        if modern:
            async with client.listen(tools_list_changed=True, prompts_list_changed=True) as stream:
                await call("test_trigger_tool_change")
                async with asyncio.timeout(10):
                    same(await anext(aiter(stream)), ToolsListChanged())
        else:
            before = told("notifications/tools/list_changed")
            await call("test_trigger_tool_change")
            await until(lambda: told("notifications/tools/list_changed") > before, "tools/list_changed")
        assert target.name("test_dynamic_tool") in {tool.name for tool in await all_of(client.list_tools, "tools")}
        await call("test_trigger_tool_change")

    async def updated() -> None:
        own = "test://watched-resource"
        if modern:
            async with client.listen(resource_subscriptions=[target.uri(own)]) as stream:
                await call("test_trigger_resource_update", {"uri": own})
                async with asyncio.timeout(10):
                    same(await anext(aiter(stream)), ResourceUpdated(uri=target.uri(own)))
            return
        await client.subscribe_resource(target.uri(own))
        await call("test_trigger_resource_update", {"uri": own})
        await until(lambda: told("notifications/resources/updated"), "resources/updated")
        found = [m.params.uri for m in messages if getattr(m, "method", "") == "notifications/resources/updated"]
        same({str(uri) for uri in found}, {target.uri(own)})
        await client.unsubscribe_resource(target.uri(own))

    async def ping() -> None:
        await client.send_ping()

    await report.check("list_tools", tools)
    await report.check("call", lambda: _is(call("test_simple_text"), "simple text"))
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
    if not modern:
        await report.check("ping", ping)


async def _is(result: Any, part: str) -> None:
    contains(await result, part)


def connect(http: httpx2.AsyncClient) -> Client:
    return Client(
        streamable_http_client(target.url, http_client=http),
        mode=target.mode,
        sampling_callback=on_sample,
        elicitation_callback=on_elicit,
        list_roots_callback=on_roots,
        logging_callback=on_log,
        message_handler=on_message,
        log_level="warning",
        read_timeout_seconds=20,
    )


async def main() -> None:
    async with httpx2.AsyncClient(timeout=30, event_hooks={"request": [on_request]}) as http:

        async def session() -> None:
            async with connect(http) as client:
                same(client.protocol_version, target.mode if modern else "2025-11-25")
                await use(client)

        async def again() -> None:
            async with connect(http) as client:
                assert (await client.list_tools()).tools

        async def ended() -> None:
            sent = [request for request in requests if request.method == "DELETE"]
            assert sent, "the client did not end its session"
            headers = dict(sent[0].headers) | {"accept": "application/json, text/event-stream"}
            body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            same((await http.post(target.url, json=body, headers=_plain(headers))).status_code, 404)

        await report.check("session", session)
        await report.check("reconnect", again)
        if not modern:
            await report.check("end", ended)


def _plain(headers: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k.startswith("mcp-") or k == "accept"}


asyncio.run(main())
report.print()

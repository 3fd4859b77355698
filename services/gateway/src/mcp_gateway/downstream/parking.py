"""Calls whose server waits for an answer of a client of 2026-07-28, which cannot be asked in the middle of a call.

The call is parked here, on the gateway replica that holds its connection to the server, while the client gathers
the answer: it gets an ``input_required`` result whose sealed ``requestState`` names the parked call, and sends its
request again with the answers (2026-07-28 basic/patterns/mrtr). The state is bound to principal, request and
expiry, and is good once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_gateway.downstream.reply import Channel
from mcp_gateway.protocol import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    Json,
    RpcError,
    result,
)
from mcp_gateway.sessions import Address, Sealer

PARKED_SECONDS = 600.0
MAX_PARKED = 1000
PURPOSE = "parked call"
# What a server may ask a client, and the capability that the client must have declared for it.
CAPABILITY_OF = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}
# A server that asks two things at once sends two messages: wait this long for the second.
GATHER_SECONDS = 0.01


@dataclass(eq=False)
class Parked:
    """A running call, and the client that its server asks."""

    task: asyncio.Task[Json]
    binding: str
    client: ParkingClient
    until: float = 0.0


def lacking(capabilities: Json, question: Json) -> Json | None:
    """The capabilities that a client would have to declare to be asked this; None if it did.

    An empty ``elicitation`` means forms alone (2026-07-28 client/elicitation, "Capabilities").
    """
    needed = CAPABILITY_OF.get(str(question.get("method")))
    if needed is None:
        return {}
    declared = capabilities.get(needed)
    if not isinstance(declared, dict):
        return {needed: {}}
    if needed == "elicitation":
        params = question.get("params")
        mode = params.get("mode", "form") if isinstance(params, dict) else "form"
        if mode not in (declared or {"form": {}}):
            return {needed: {mode: {}}}
    return None


def undeclared(capabilities: Json, question: Json) -> RpcError | None:
    """The error that a client of 2026-07-28 gets in place of what it did not declare (basic/index, "Capabilities")."""
    needed = lacking(capabilities, question)
    if needed is None:
        return None
    return RpcError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"the server asks for {question.get('method')}, which the client did not declare",
        {"requiredCapabilities": needed},
    )


class Parking:
    """Where the calls stand; one per gateway.

    Args:
        holder: what other gateway replicas know this one by.
    """

    def __init__(self, sealer: Sealer, holder: str) -> None:
        self._sealer = sealer
        self._holder = holder
        self._calls: dict[str, Parked] = {}

    def __len__(self) -> int:
        return len(self._calls)

    async def run(self, client: ParkingClient, work: Coroutine[Any, Any, Json], binding: str) -> Json:
        """The result of ``work``, or an ``input_required`` result as soon as its server asks something."""
        return await self._wait(Parked(asyncio.ensure_future(work), binding, client))

    async def resume(self, identity: str, binding: str, responses: Json, channel: Channel | None) -> Json:
        """Give the answers to the parked call and wait for what comes next.

        Raises:
            RpcError: nothing is parked under that name for this request.
        """
        parked = self._calls.get(identity)
        if parked is None or parked.binding != binding:
            raise RpcError(INVALID_PARAMS, "requestState is not of this request, or its time is over; call again")
        del self._calls[identity]
        client = parked.client
        client.channel = channel
        for key, response in responses.items():
            future = client.answers.pop(key, None)
            client.questions.pop(key, None)
            if future and not future.done():
                future.set_result(response)
        return await self._wait(parked)

    async def _wait(self, parked: Parked) -> Json:
        client = parked.client
        asked = asyncio.ensure_future(client.asked.wait())
        try:
            if not client.questions:
                await asyncio.wait({parked.task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not parked.task.done() and client.questions:
                await asyncio.wait({parked.task}, timeout=GATHER_SECONDS)
            if parked.task.done():
                return parked.task.result()
        except asyncio.CancelledError:
            parked.task.cancel()
            raise
        finally:
            asked.cancel()
        client.asked.clear()
        client.channel = None
        if len(self._calls) >= MAX_PARKED:
            self._end(next(iter(self._calls)))
        identity = Sealer.new_id()
        parked.until = time.monotonic() + PARKED_SECONDS
        self._calls[identity] = parked
        state = self._sealer.seal_value(PURPOSE, [identity, self._holder, int(time.time() + PARKED_SECONDS)])
        return {"resultType": "input_required", "inputRequests": dict(client.questions), "requestState": state}

    def open(self, state: object) -> tuple[str, str] | None:
        """A parked call's identity and holder; None for a state that is not of ours."""
        fields = self._sealer.open_value(PURPOSE, state)
        if fields is None or fields[2] < time.time():
            return None
        return fields[0], fields[1]

    def sweep(self, now: float) -> None:
        """End calls whose clients did not come back."""
        for identity in [key for key, parked in self._calls.items() if parked.until < now]:
            self._end(identity)

    def _end(self, identity: str) -> None:
        self._calls.pop(identity).task.cancel()

    def close(self) -> None:
        """End all."""
        for identity in list(self._calls):
            self._end(identity)


class ParkingClient:
    """The client of a call that may be parked. ``notify`` goes to whoever waits at the moment."""

    def __init__(self, capabilities: Json, channel: Channel | None) -> None:
        self._capabilities = capabilities
        self.asked = asyncio.Event()
        self.questions: dict[str, Json] = {}
        self.answers: dict[str, asyncio.Future[Json]] = {}
        self.channel = channel
        self._count = 0

    async def notify(self, message: Json) -> None:
        """Relay, while somebody waits."""
        if self.channel:
            await self.channel.send(message)

    def refusal(self, question: Json) -> RpcError | None:
        """The client must have declared what it is asked."""
        return undeclared(self._capabilities, question)

    async def ask(self, question: Json, address: Address) -> Json:
        """Have the question asked with the next result, and wait for the answer."""
        method = question["method"]
        self._count += 1
        key = f"{address.server}-{self._count}"
        params = question.get("params")
        if isinstance(params, dict):
            # 2026-07-28 has no such key (schema, ElicitRequestURLParams).
            params = {name: value for name, value in params.items() if name != "elicitationId"}
            self.questions[key] = {"method": method, "params": params}
        else:
            self.questions[key] = {"method": method}
        future = self.answers[key] = asyncio.get_running_loop().create_future()
        self.asked.set()
        return result(question["id"], await future)


def binding_of(endpoint: str, principal: str, method: str, params: Json) -> str:
    """A digest of what must be the same when a request is sent again."""
    salient = {key: params.get(key) for key in ("name", "uri", "arguments")}
    text = orjson.dumps([endpoint, principal, method, salient], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()

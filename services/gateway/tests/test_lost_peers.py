"""Connections to servers: a peer that is gone without a word is noticed within seconds."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from mcp_gateway.net.client import LOST_SECONDS, Client, origin_of

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_the_system_gives_a_silent_peer_up() -> None:
    async def use() -> tuple[int, int, int]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = origin_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp")
        client = Client()
        await client.send(url, b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 5, 5)
        connection = client.kept(url)
        assert connection
        plain = connection.transport.get_extra_info("socket")
        options = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE)
        found = [plain.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        alive = plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        connection.back()
        client.close()
        server.close()
        return found[0], found[1], alive

    assert uvloop.run(use()) == (1000 * LOST_SECONDS, LOST_SECONDS, 1)

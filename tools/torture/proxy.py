"""Links between processes that can be slowed, stalled and cut: a TCP proxy in a process of its own.

It listens once per link and passes bytes on to where the link leads. What is to happen to a link
comes as lines of JSON on its standard input, ``{"link": "gateway", "delay_ms": 100}``; every line
is answered with one on its standard output once it holds. It ends when its input does, so it
cannot outlive who started it.
"""

import asyncio
import json
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

import uvloop

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Link:
    """A port that leads to another one.

    Attributes:
        delay_ms: How long each piece of data is held up, in both directions.
        is_stalled: Nothing passes; connections stay.
        is_cut: Connections are reset, and new ones at once.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._may_pass = asyncio.Event()
        self.change()

    def change(self, *, delay_ms: int = 0, is_stalled: bool = False, is_cut: bool = False) -> None:
        """Make the link like this; without arguments it is a good one again."""
        self.delay_ms, self.is_stalled, self.is_cut = delay_ms, is_stalled, is_cut
        if is_stalled:
            self._may_pass.clear()
        else:
            self._may_pass.set()
        if is_cut:
            for writer in self._writers:
                _reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        ends = [writer]
        ways: list[asyncio.Task[None]] = []
        self._writers.add(writer)
        try:
            if not self.is_cut:
                back, onward = await asyncio.open_connection("127.0.0.1", self._port)
                self._writers.add(onward)
                ends.append(onward)
                ways.append(asyncio.create_task(self._carry(reader, onward)))
                ways.append(asyncio.create_task(self._carry(back, writer)))
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # nothing listens there, or the proxy ends
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in ends:
                self._writers.discard(end)
                if self.is_cut or len(ends) == 1:
                    _reset(end)
                else:
                    end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What is gone raises OSError, what was reset RuntimeError: the other end is closed then.
        with suppress(OSError, RuntimeError):
            while data := await reader.read(_CHUNK_BYTES):
                if self.delay_ms:
                    await asyncio.sleep(self.delay_ms / 1_000)
                await self._may_pass.wait()
                writer.write(data)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection the hard way, as a machine that fell over would."""
    with suppress(OSError):
        own = writer.get_extra_info("socket")
        if not writer.is_closing() and own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def run(links: dict[str, list[int]]) -> None:
    """Serve links, name to (port, port that it leads to), until the input ends."""
    found = {name: Link(name, target) for name, (_, target) in links.items()}
    servers = [
        await asyncio.start_server(found[name].serve, "127.0.0.1", port)
        for name, (port, _) in links.items()
    ]
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(json.dumps({"ready": sorted(found)}), flush=True)
    while line := await lines.readline():
        order: dict[str, Any] = json.loads(line)
        found[order.pop("link")].change(**order)
        print(json.dumps({"done": True}), flush=True)
    for server in servers:
        server.close()
    for link in found.values():
        link.change(is_cut=True)


if __name__ == "__main__":
    uvloop.run(run(json.loads(sys.argv[1])))

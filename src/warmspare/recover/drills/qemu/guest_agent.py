"""QEMU's guest agent, asked from outside: whether it answers and what runs there; refuses to change the guest, and what
it says without end.

QEMU's documentation, "QEMU Guest Agent Protocol Reference". The channel has no beginning: what an agent of another boot
left in it is skipped up to the answer that carries our number.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

_READ_BYTES = 1 << 14
MAX_ANSWER_BYTES = 1 << 16
MAX_SAID_BYTES = 64 << 20
MAX_FIELDS, MAX_TEXT = 32, 200
POLL_S = 1.0
_NUMBER = 0x5EED  # the first; each question after a silence has the next one


async def answer(end: socket.socket) -> dict[str, Any]:
    """Wait until an agent answers; what it says of the system (`guest-get-osinfo`; empty where it knows none).

    Asks again each second, since a channel that nobody listens to swallows what it is sent. Ends by being cancelled. A
    channel that has said MAX_SAID_BYTES of anything else is listened to no more: it would only cost time.
    """
    loop = asyncio.get_running_loop()
    lines = _AgentLines(end)
    number = _NUMBER
    while True:
        number += 1
        try:
            async with asyncio.timeout(POLL_S):
                await loop.sock_sendall(end, b"\xff" + _command("guest-sync", id=number))
                while (await lines.next()).get("return") != number:
                    pass
                await loop.sock_sendall(end, _command("guest-get-osinfo"))
                got = (await lines.next()).get("return")
                return _bounded(got) if isinstance(got, dict) else {}
        except TimeoutError:
            continue
        except (EOFError, ConnectionError):  # QEMU is gone, which its own watcher tells, or nothing sensible will come
            await asyncio.Event().wait()


def _bounded(system: dict[str, Any]) -> dict[str, str]:
    """What a guest says of itself, as much as people read of it, and nothing that no encoding can say."""
    texts = {key[:MAX_TEXT]: value[:MAX_TEXT] for key, value in system.items() if isinstance(value, str)}
    kept = list(texts.items())[:MAX_FIELDS]
    return {key.encode(errors="replace").decode(): value.encode(errors="replace").decode() for key, value in kept}


def _command(name: str, **arguments: Any) -> bytes:
    return json.dumps({"execute": name, **({"arguments": arguments} if arguments else {})}).encode() + b"\n"


class _AgentLines:
    """JSON objects, a line each; nonsense is skipped, and so is a line that never ends."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._data, self._left = end, bytearray(), MAX_SAID_BYTES

    async def next(self) -> dict[str, Any]:
        while True:
            end = self._data.find(b"\n")
            if end >= 0:
                line = bytes(self._data[:end])
                del self._data[: end + 1]
                try:
                    value = json.loads(line.lstrip(b"\xff"))
                except (ValueError, RecursionError):
                    continue
                if isinstance(value, dict):
                    return value
                continue
            if len(self._data) > MAX_ANSWER_BYTES:
                self._data.clear()
            try:
                data = await asyncio.get_running_loop().sock_recv(self._end, _READ_BYTES)
            except ConnectionError:
                data = b""
            self._left -= len(data)
            if not data or self._left < 0:
                raise EOFError
            self._data += data

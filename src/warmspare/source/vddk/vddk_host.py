"""The reader process: loads a VDDK, obeys its client; owns no policy and keeps nothing.

Run as `python -m warmspare.source.vddk.vddk_host CONTROL RING RING_BYTES REQUESTS COMPLETIONS`: descriptors of a
socket, the ring's memory and its two eventfds. One line of JSON asks, one answers; docs/architecture.md, "The reader
process". Secrets come through the socket. Imports as little as can be: whatever links OpenSSL here would meet the
VDDK's.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
from typing import Any

from warmspare._native import vddk

GRACE_MS = 5_000  # to close handles and connections in when the client is gone
ASYNCHRONOUS = ("nbd", "nbdssl")  # the transports whose ReadAsync is


class Host:
    """Answers one client. Each method is an operation; its arguments are the request's fields."""

    def __init__(self, ring_fd: int, ring_bytes: int, request_fd: int, completion_fd: int) -> None:
        self._ring = (ring_fd, ring_bytes, request_fd, completion_fd)
        self._library: vddk.Library | None = None

    @property
    def _loaded(self) -> vddk.Library:
        if self._library is None:
            raise ValueError("no library is loaded")
        return self._library

    def load(self, path: str) -> dict[str, Any]:
        """dlopen. missing: [symbol, required] of what it lacks."""
        self._library = vddk.Library(path)
        return {"missing": self._library.missing}

    def init(self, directory: str, config: str | None) -> dict[str, Any]:
        self._loaded.init(2, directory, config)
        return {"modes": self._loaded.transport_modes()}

    def target(self, **fields: Any) -> dict[str, Any]:
        self._loaded.target(**fields)
        return {}

    def cleanup(self) -> dict[str, Any]:
        cleaned, remaining = self._loaded.cleanup()
        return {"cleaned": cleaned, "remaining": remaining}

    def prepare(self, identity: str) -> dict[str, Any]:
        self._loaded.prepare(identity)
        return {}

    def end_access(self, identity: str) -> dict[str, Any]:
        self._loaded.end_access(identity)
        return {}

    def connect(self, snapshot: str | None, modes: str | None) -> dict[str, Any]:
        self._loaded.connect(snapshot, modes)
        return {}

    def open(self, path: str) -> dict[str, Any]:
        sectors, uuid, mode = self._loaded.open(path)
        return {"sectors": sectors, "uuid": uuid, "mode": mode}

    def start(self, sectors: int, mode: str, keep_alive_ms: int) -> dict[str, Any]:
        if self._ring[0] >= 0:
            self._loaded.attach(*self._ring)
            self._ring = (-1, 0, -1, -1)
        return {"asynchronous": self._loaded.start(sectors, mode in ASYNCHRONOUS, keep_alive_ms)}

    def close(self) -> dict[str, Any]:
        self._loaded.close()
        return {}

    def disconnect(self) -> dict[str, Any]:
        self._loaded.disconnect()
        return {}

    def explain(self, error: int) -> dict[str, Any]:
        return {"text": self._loaded.error_text(error)}

    def exit(self) -> dict[str, Any]:
        if self._library is not None:
            library, self._library = self._library, None
            library.exit()
        return {}

    OPERATIONS = frozenset(
        {
            "load",
            "init",
            "target",
            "cleanup",
            "prepare",
            "end_access",
            "connect",
            "open",
            "start",
            "close",
            "disconnect",
            "explain",
            "exit",
        }
    )

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to a request; an error of the library's or the loader's is one too."""
        request = json.loads(line)
        operation = request.pop("op")
        if operation not in self.OPERATIONS:
            raise ValueError(f"no operation {operation!r}")
        try:
            return {"ok": True, **getattr(self, operation)(**request)}
        except vddk.VddkError as error:
            return {"ok": False, "call": error.call, "code": error.code, "text": error.text}
        except OSError as error:
            return {"ok": False, "call": operation, "code": -1, "text": str(error)}


def main() -> int:
    control, ring, ring_bytes, requests, completions = map(int, sys.argv[1:])
    os.dup2(2, 1)  # libraries print; only the socket is for answers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold passwords
    vddk.watch(control, GRACE_MS)
    host = Host(ring, ring_bytes, requests, completions)
    with socket.socket(fileno=control) as connection, connection.makefile("rb") as lines:
        with contextlib.suppress(ConnectionError):
            for line in lines:
                connection.sendall(json.dumps(host.answer(line)).encode() + b"\n")
        with contextlib.suppress(vddk.VddkError):
            host.exit()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""An S3 server that keeps nothing: it takes bodies and drops them, and gives out noise. Checks nothing, on purpose.

What is left beside it is the cost of the client. It answers as S3 does: parts with the CRC32C that came with them,
multipart uploads with the CRC32C they are completed with, ranges with Content-Range.

    python discard.py [--host 127.0.0.1] [--port 0] [--object-mb 64]     prints its port, serves until stdin ends
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUFFER_BYTES = 1 << 20
_HEAD_BYTES = 64 << 10
_DATE = "Mon, 01 Jan 2035 00:00:00 GMT"


class _Connection:
    """One client, on a thread of its own: bytes come in by recv_into and go out by sendall, with the GIL released."""

    def __init__(self, sock: socket.socket, noise: memoryview) -> None:
        self._sock, self._noise = sock, noise
        self._buffer = bytearray(_BUFFER_BYTES)
        self._start = self._end = 0  # of what was received and is not used yet

    def serve(self) -> None:
        with self._sock, contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while head := self._head():
                line, _, rest = head.partition(b"\r\n")
                method, target, _ = line.decode("latin-1").split(" ", 2)
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (field.partition(":") for field in rest.decode("latin-1").split("\r\n"))
                }
                if "expect" in headers:
                    self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._drop(int(headers.get("content-length", "0")))
                self._answer(method, target, headers)

    def _head(self) -> bytes:
        """Up to the empty line; b"" at the end of the connection."""
        while (at := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            if self._start:
                self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
                self._start, self._end = 0, self._end - self._start
            count = self._sock.recv_into(memoryview(self._buffer)[self._end : _HEAD_BYTES])
            if not count:
                return b""
            self._end += count
        head = bytes(self._buffer[self._start : at])
        self._start = at + 4
        return head

    def _drop(self, count: int) -> None:
        taken = min(count, self._end - self._start)
        self._start += taken
        count -= taken
        while count:
            got = self._sock.recv_into(self._buffer, min(count, _BUFFER_BYTES))
            if not got:
                raise OSError("the client went away")
            count -= got

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> None:
        checksum = headers.get("x-amz-checksum-crc32c", "")
        fields = [f"Date: {_DATE}", 'ETag: "0"', f"Last-Modified: {_DATE}"]
        body: memoryview | bytes = b""
        status = "200 OK"
        if method == "PUT" and checksum:
            fields.append(f"x-amz-checksum-crc32c: {checksum}")
        elif method == "POST":
            body = _xml(checksum) if "uploadId=" in target else _xml("")
        elif method == "DELETE":
            status = "204 No Content"
        elif method == "GET" and "list-type" in target:
            body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        elif method in ("GET", "HEAD"):
            first, last = 0, len(self._noise) - 1
            if found := re.match(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
                first, last = int(found[1]), int(found[2])
                status = "206 Partial Content"
                fields.append(f"Content-Range: bytes {first}-{last}/{len(self._noise)}")
            length = last + 1 - first
            at = first % (len(self._noise) - length + 1)
            body = self._noise[at : at + length]
        length = len(body)
        head = "\r\n".join([f"HTTP/1.1 {status}", *fields, f"Content-Length: {length}", "\r\n"])
        self._sock.sendall(head.encode())
        if method != "HEAD":
            self._sock.sendall(body)


def _xml(checksum: str) -> bytes:
    inner = f"<UploadId>u</UploadId><ETag>&quot;0&quot;</ETag><ChecksumCRC32C>{checksum}</ChecksumCRC32C>"
    return f"<Result>{inner}</Result>".encode()


def serve(host: str, port: int, object_bytes: int) -> None:
    """Print the port and serve until stdin ends."""
    noise = memoryview(os.urandom(object_bytes))
    listener = socket.create_server((host, port), backlog=128)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=_Connection(sock, noise).serve, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


@contextmanager
def running(*, prefix: tuple[str, ...] = (), host: str = "127.0.0.1", object_mb: int = 64) -> Iterator[str]:
    """The URL of a server in a process of its own. prefix: what to start it with (`ip netns exec NAME`)."""
    command = [*prefix, sys.executable, str(Path(__file__).resolve()), "--host", host, "--object-mb", str(object_mb)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://{host}:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--object-mb", type=int, default=64)
    given = options.parse_args()
    serve(given.host, given.port, given.object_mb << 20)

"""Small S3 servers for tests, each of which keeps less than the product wants; a process each, on loopback.

LocalBucket has conditional creates and no conditional replaces, and can neither list uploads nor delete many objects at
once. nanio takes every condition and ignores it. So does rclone's server.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from servers import S3Server, free_port, wait_ready

ACCESS, SECRET = "small-access", "small-secret-c0de"


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@contextlib.contextmanager
def _serving(home: Path, port: int, *words: str, **environment: str) -> Iterator[S3Server]:
    (home / "data").mkdir()
    server = S3Server.at(f"http://127.0.0.1:{port}", ACCESS, SECRET)
    with (home / "out.log").open("ab") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    try:
        wait_ready(process, server.endpoint_url, home / "out.log", refusals=True)
        yield server
    finally:
        process.kill()
        process.wait()


def localbucket_server(home: Path) -> contextlib.AbstractContextManager[S3Server]:
    """LocalBucket, with its data in `home` (which must exist); it looks at no keys."""
    port = free_port()
    return _serving(home, port, _program("localbucket"), "--port", str(port), str(home / "data"))


def nanio_server(home: Path) -> contextlib.AbstractContextManager[S3Server]:
    """nanio, with its data in `home` (which must exist)."""
    port = free_port()
    words = ("serve", "--data-dir", str(home / "data"), "--host", "127.0.0.1", "--port", str(port), "--no-access-log")
    return _serving(home, port, _program("nanio"), *words, NANIO_ACCESS_KEY=ACCESS, NANIO_SECRET_KEY=SECRET)


def rclone_server(home: Path) -> contextlib.AbstractContextManager[S3Server]:
    """`rclone serve s3`, with its data in `home` (which must exist)."""
    port = free_port()
    words = ("serve", "s3", "--auth-key", f"{ACCESS},{SECRET}", "--addr", f"127.0.0.1:{port}", str(home / "data"))
    own = {"RCLONE_CONFIG": str(home / "rclone.conf"), "RCLONE_CACHE_DIR": str(home / "cache")}
    return _serving(home, port, _program("rclone"), *words, **own)

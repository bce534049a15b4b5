"""What does S3 cost the client, in CPU seconds a GiB, up and down?

Against a server that keeps nothing (rigs/stores/discard.py: what is left is the client) and against SeaweedFS, over
plain HTTP on loopback, where payloads are not signed. Beside it, in the same run and on the same event loop, the same
parts through aiobotocore as it comes, and whole commands of other programs where they are installed. Servers run in
processes of their own and are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvloop

import harness
from rigs.stores import discard

PART_BYTES = 8 << 20
RANGE_BYTES = 4 << 20
AT_ONCE = 8
BUCKET = "bench"
PEERS = {
    "aws s3 cp": ("aws", ["aws", "s3", "cp", "--quiet"]),
    "s5cmd cp": ("s5cmd", ["s5cmd", "cp"]),
}
Move = Callable[[], Awaitable[None]]


def main() -> None:
    options = harness.parser(__doc__, runs=3, mb=1024)
    options.add_argument("--side", nargs=4, metavar=("WHO", "WAY", "URL", "MB"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.side:
        who, way, url, mb = given.side
        uvloop.run(_side(who, way, url, int(mb)))
        return
    figures: list[dict[str, Any]] = []
    with harness.scratch(given, "s3") as scratch:
        for server, serving in (("discard", _discard), ("SeaweedFS", seaweed)):
            with serving(scratch) as (url, environment):
                os.environ.update(environment)
                figures += _measure(given, server, url, scratch)
    setting = {"MiB": given.mb, "parts": "8 MiB up, 4 MiB down", "at once": AT_ONCE, "runs": given.runs}
    harness.report(given, "CPU seconds of an S3 client a GiB", setting, figures)


def _measure(given: Any, server: str, url: str, scratch: Path) -> Iterator[dict[str, Any]]:
    gib = given.mb / 1024
    for way in ("up", "down"):
        sides = {who: _child(who, way, url, given.mb) for who in ("warmspare", "aiobotocore")}
        done = harness.alternate(given.runs, sides)
        cost, wall = (
            {who: statistics.median(run.event("moved")[name] for run in runs) / gib for who, runs in done.items()}
            for name in ("cpu_s", "wall_s")
        )
        for who in sides:
            ratio = cost[who] / cost["aiobotocore"]
            yield {"server": server, "way": way, "client": who, "cpu_s": cost[who], "wall_s": wall[who], "ratio": ratio}
    for name, (program, command) in PEERS.items():
        if shutil.which(program) is None:
            continue
        source = _noise(scratch / "noise", given.mb)
        endpoint = ["--endpoint-url", url]
        whole = [command[0], *(endpoint if program == "s5cmd" else []), *command[1:]]
        whole += [*(endpoint if program == "aws" else []), str(source), f"s3://{BUCKET}/peer"]
        runs = [harness.run(whole) for _ in range(given.runs)]
        cpu_s = statistics.median(run.user_s + run.system_s for run in runs) / gib
        yield {"server": server, "way": "up", "client": f"{name}, its start included", "cpu_s": cpu_s}


def _child(who: str, way: str, url: str, mb: int) -> Callable[[], harness.Run]:
    return lambda: harness.run([sys.executable, __file__, "--side", who, way, url, str(mb)])


def _noise(path: Path, mb: int) -> Path:
    if not path.exists():
        with path.open("wb") as file:
            for _ in range(mb):
                file.write(os.urandom(1 << 20))
    return path


@contextmanager
def _discard(scratch: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with discard.running() as url:
        keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        yield url, {**keys, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}


@contextmanager
def seaweed(scratch: Path) -> Iterator[tuple[str, dict[str, str]]]:
    from botocore.session import get_session

    from servers import seaweed_server

    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        server = stack.enter_context(seaweed_server(data))
        os.environ.update(server.environment)
        get_session().create_client("s3", endpoint_url=server.endpoint_url).create_bucket(Bucket=BUCKET)
        yield server.endpoint_url, server.environment


# -- in the child ---------------------------------------------------------------------------------------------------


async def _side(who: str, way: str, url: str, mb: int) -> None:
    """Move `mb` MiB and print what it cost, the program's start and its connecting left out."""
    prepared = _warmspare if who == "warmspare" else _aiobotocore
    async with prepared(way, url, mb) as move:
        before, began = _cpu_s(), time.perf_counter()
        await move()
        print(json.dumps({"event": "moved", "cpu_s": _cpu_s() - before, "wall_s": time.perf_counter() - began}))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _parts() -> list[memoryview]:
    return [memoryview(bytearray(os.urandom(PART_BYTES))) for _ in range(4)]


async def _all(count: int, one: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(worker())


def _offsets(mb: int) -> list[int]:
    """Of the ranges to be read, all in one object of 64 MiB."""
    return [number * RANGE_BYTES % (64 << 20) for number in range(mb * (1 << 20) // RANGE_BYTES)]


@asynccontextmanager
async def _warmspare(way: str, url: str, mb: int) -> AsyncIterator[Move]:
    from warmspare.store.s3.s3_store import S3Store

    store = S3Store(BUCKET, f"{way}-{os.getpid()}", endpoint_url=url, concurrency=AT_ONCE)
    parts, count = _parts(), mb * (1 << 20) // PART_BYTES
    store._connection.window.size = AT_ONCE  # what it would grow to; the peer has as many from the start

    async def upload(key: str, count: int) -> None:
        async with store.upload(key) as upload:
            for number in range(count):
                await upload.write(parts[number % len(parts)])

    async def up() -> None:
        await upload("object", count)

    async def down() -> None:
        offsets = _offsets(mb)
        await _all(len(offsets), lambda n: store.get_range("source", offsets[n], RANGE_BYTES))

    try:
        await upload("source", 8)
        yield up if way == "up" else down
    finally:
        await store.close()


@asynccontextmanager
async def _aiobotocore(way: str, url: str, mb: int) -> AsyncIterator[Move]:
    from aiobotocore.session import get_session

    parts, count = _parts(), mb * (1 << 20) // PART_BYTES
    async with get_session().create_client("s3", endpoint_url=url) as client:
        where = {"Bucket": BUCKET, "Key": f"peer-{way}-{os.getpid()}"}

        async def upload(count: int) -> None:
            begun = await client.create_multipart_upload(**where)
            tags: dict[int, str] = {}

            async def one(number: int) -> None:
                answer = await client.upload_part(
                    **where, UploadId=begun["UploadId"], PartNumber=number + 1, Body=bytes(parts[number % len(parts)])
                )
                tags[number + 1] = answer["ETag"]

            await _all(count, one)
            listed = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]
            await client.complete_multipart_upload(
                **where, UploadId=begun["UploadId"], MultipartUpload={"Parts": listed}
            )

        async def down() -> None:
            offsets = _offsets(mb)

            async def one(number: int) -> None:
                at = offsets[number]
                answer = await client.get_object(**where, Range=f"bytes={at}-{at + RANGE_BYTES - 1}")
                async with answer["Body"] as body:
                    await body.read()

            await _all(len(offsets), one)

        await upload(8)
        yield (lambda: upload(count)) if way == "up" else down


if __name__ == "__main__":
    harness.main(main)

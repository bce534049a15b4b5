"""S3 servers that never come to an end: listings, bodies, answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from warmspare.errors import StoreError
from warmspare.patience import Patience
from warmspare.store.s3.s3_store import S3Store
from warmspare.store.s3.session import staying

QUICK = Patience(deadline_s=1.0, first_s=1.0, stall_s=0.5, connect_s=5.0, pause_s=0.02, most_s=0.1, few=2)
Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Store]:
    """A store at a server that answers each request with `answer`, given its first line."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                await answer(head.split("\r\n", 1)[0], writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = S3Store("bucket", "", endpoint_url=f"http://127.0.0.1:{port}", patience=QUICK)
    try:
        yield store
    finally:
        await store.close()
        server.close()


def page(keys: list[str], token: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size>"
        "</Contents>"
        for key in keys
    )
    body = (
        f"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        f"{entries}</ListBucketResult>"
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("same", ["page", "token", "nothing"])
async def test_the_same_page_for_ever(monkeypatch: pytest.MonkeyPatch, same: str) -> None:
    count = 0

    async def answer(asked: str, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        keys = {"page": ["vms/a"], "token": [f"vms/k{count:06d}"], "nothing": []}[same]
        writer.write(page(keys, "t" if same == "token" else f"t{count}"))

    async with serving(answer, monkeypatch) as store:
        with pytest.raises(StoreError, match="the listing does not end"):
            async with asyncio.timeout(120):
                assert [info async for info in store.list("vms/")]
    assert count <= 1100


async def test_a_body_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(asked: str, writer: asyncio.StreamWriter) -> None:
        length = b"Content-Length: 100000\r\nContent-Range: bytes 0-99999/100000"
        writer.write(b"HTTP/1.1 206 X\r\n" + length + b"\r\nETag: e\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(answer, monkeypatch) as store:
        with pytest.raises(StoreError) as caught:
            async with asyncio.timeout(120):
                await store.get_range("x", 0, 100_000)
    assert caught.value.retryable


@pytest.mark.parametrize("status", ["200 OK", "500 X"])
async def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    sent = 0

    async def answer(asked: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n<a>".encode())
        while True:
            writer.write(b"x" * (1 << 16))
            sent += 1 << 16
            await writer.drain()

    async with serving(answer, monkeypatch) as store:
        with pytest.raises(StoreError):
            async with asyncio.timeout(120):
                assert [info async for info in store.list("vms/")]
    assert sent < 2 << 30


ENTRY = (
    "<Contents><Key>vms/a/x</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size>"
    "</Contents>"
)


def whole(body: bytes) -> Answer:
    """A server that has one answer."""

    async def answer(asked: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    return answer


def listing(entries: str) -> bytes:
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<Key>vms/a/x</Key>", ""),
        ("<Size>1</Size>", ""),
        ("<ETag>e</ETag>", ""),
        ("<LastModified>2026-01-01T00:00:00Z</LastModified>", ""),
        ("<Key>vms/a/x</Key>", "<Key>vms/a/x</Key><Key>vms/b/x</Key>"),
        ("<ETag>e</ETag>", "<ETag>e</ETag><ETag>f</ETag>"),
        ("2026-01-01T00:00:00Z", "1e300"),
        ("2026-01-01T00:00:00Z", "99999999999999"),
        ("<Size>1</Size>", "<Size>1</Size><Size>2</Size>"),
        (
            "</Contents>",
            "</Contents><NextContinuationToken>a</NextContinuationToken><NextContinuationToken>b"
            "</NextContinuationToken>",
        ),
    ],
)
async def test_a_listing_that_is_not_made_as_one(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    async with serving(whole(listing(ENTRY.replace(old, new))), monkeypatch) as store:
        with pytest.raises(StoreError, match=r"answer (lacks|can't be understood)|overloaded or failing") as caught:
            async with asyncio.timeout(120):
                assert [info async for info in store.list("vms/")]
    assert caught.value.retryable


async def test_uploads_that_are_not_listed_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<R><Bucket>b</Bucket><Upload><Key>vms/a</Key></Upload></R>"
    async with serving(whole(body), monkeypatch) as store:
        with pytest.raises(StoreError, match="answer lacks UploadId"):
            async with asyncio.timeout(120):
                await store.stale_uploads("vms/")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (listing("<x/>" * 600), "more than 500 parts"),
        (listing("<x>" * 600), "more than 500 parts"),
        (listing("<x " + 'a="" ' * 600 + "/>"), "more than 500 parts"),
        (listing("x" * 70_000), "more than 0 MiB"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + listing("&b;"), "entities"),
        (b"\xff\xfe" + listing("").decode().encode("utf-16-le"), "encoding"),
    ],
)
async def test_an_answer_that_would_swell(monkeypatch: pytest.MonkeyPatch, body: bytes, why: str) -> None:
    monkeypatch.setattr(staying, "ANSWER_BYTES", 1 << 16)
    monkeypatch.setattr(staying, "ANSWER_PARTS", 500)
    async with serving(whole(body), monkeypatch) as store:
        with pytest.raises(StoreError, match=f"answer is not read: .*{why}"):
            async with asyncio.timeout(120):
                assert [info async for info in store.list("vms/")]

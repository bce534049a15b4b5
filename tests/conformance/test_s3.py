"""What S3Store does beyond the contract: checksums, lost answers, errors in one sentence, no secrets."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiobotocore.httpsession
import aiohttp
import crc32c
import pytest
import pytest_asyncio
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from servers import S3Place, free_port
from warmspare.errors import NotFoundError, StoreError
from warmspare.patience import Patience
from warmspare.store.contract import PART_BYTES, Paced
from warmspare.store.opening import open_store
from warmspare.store.s3 import manner
from warmspare.store.s3.body import Body, decode_crc32c, encode_crc32c
from warmspare.store.s3.connection import Connection
from warmspare.store.s3.s3_store import S3Store

Make = Callable[..., S3Store]
ONCE = Patience(deadline_s=0, first_s=0)
QUICK = Patience(deadline_s=0.3, first_s=0.3, pause_s=0.01, most_s=0.05)


@pytest.fixture(params=["seaweed", "moto"])
def place(request: pytest.FixtureRequest) -> S3Place:
    """A fresh place on each server."""
    found: S3Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    """Makes stores that are closed at the end."""
    made: list[S3Store] = []

    def build(bucket: str, prefix: str, **more: Any) -> S3Store:
        made.append(S3Store(bucket, prefix, **{"patience": QUICK, **more}))
        return made[-1]

    yield build
    for store in made:
        await store.close()


class Wire:
    """Stands between the client and the network: may lose answers, counts what is under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lose: Callable[[Any], Exception | None] = lambda request: None
        self.requests: list[tuple[str, str]] = []
        self.parts_now = self.parts_most = 0
        real = aiobotocore.httpsession.AIOHTTPSession.send

        async def send(session: Any, request: Any) -> Any:
            self.requests.append((request.method, request.url))
            is_part = "partNumber=" in request.url
            self.parts_now += is_part
            self.parts_most = max(self.parts_most, self.parts_now)
            try:
                answer = await real(session, request)
                error = self.lose(request)
                if error is not None:
                    await answer.content
                    raise error
                return answer
            finally:
                self.parts_now -= is_part

        monkeypatch.setattr(aiobotocore.httpsession.AIOHTTPSession, "send", send)

    def lose_first(self, method: str, containing: str = "", times: int = 1) -> None:
        """Carry out the first such requests, and lose their answers."""
        left = [times]

        def lose(request: Any) -> Exception | None:
            if request.method != method or containing not in request.url or not left[0]:
                return None
            left[0] -= 1
            if left[0] % 2:
                return ReadTimeoutError(endpoint_url=request.url)
            return ConnectionClosedError(endpoint_url=request.url)

        self.lose = lose

    def count(self, method: str, containing: str = "") -> int:
        return sum(m == method and containing in url for m, url in self.requests)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Control over the answers."""
    return Wire(monkeypatch)


# -- lost answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [ONCE, QUICK])
async def test_a_create_whose_answer_is_lost_is_ours(
    place: S3Place, make: Make, wire: Wire, patience: Patience
) -> None:
    store = make(place.bucket, place.prefix, patience=patience)
    wire.lose_first("PUT")
    assert await store.create("vms/a/points/1.json", b"mine") is True
    assert wire.count("PUT") == (1 if patience is ONCE else 2)
    assert wire.count("GET") == 1  # read back
    wire.lose_first("PUT")
    assert await store.create("vms/a/points/1.json", b"another's") is False
    assert await store.get("vms/a/points/1.json") == b"mine"


async def test_a_create_that_never_arrived_is_an_error(
    seaweed_place: S3Place, make: Make, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix, patience=ONCE)
    await store.put("l", b"old")
    real = aiobotocore.httpsession.AIOHTTPSession.send

    async def drop_puts(session: Any, request: Any) -> Any:
        if request.method == "PUT":
            raise ReadTimeoutError(endpoint_url=request.url)
        return await real(session, request)

    monkeypatch.setattr(aiobotocore.httpsession.AIOHTTPSession, "send", drop_puts)
    old = await store.head("l")
    assert old is not None
    for call in (
        store.create("x", b"mine"),
        store.replace("x", b"mine", etag=None),
        store.replace("l", b"mine", etag=old.etag),
    ):
        with pytest.raises(StoreError, match="did not answer in time") as caught:
            await call
        assert caught.value.retryable
    assert await store.get("l") == b"old"
    assert await store.head("x") is None


@pytest.mark.parametrize("patience", [ONCE, QUICK])
async def test_a_replace_whose_answer_is_lost_is_ours(
    place: S3Place, make: Make, wire: Wire, patience: Patience
) -> None:
    store = make(place.bucket, place.prefix, patience=patience)
    first = await store.replace("l", b"1", etag=None)
    assert first is not None
    wire.lose_first("PUT")
    second = await store.replace("l", b"2", etag=first.etag)
    assert second is not None
    head = await store.head("l")
    assert head is not None and head.etag == second.etag
    wire.lose_first("PUT")
    assert await store.replace("l", b"3", etag=first.etag) is None
    wire.lose_first("PUT")
    assert await store.replace("l", b"3", etag=None) is None
    assert await store.get("l") == b"2"


@pytest.mark.parametrize("patience", [ONCE, QUICK])
@pytest.mark.parametrize("size", [10, PART_BYTES + 10])
async def test_an_upload_whose_last_answer_is_lost_is_ours(
    place: S3Place, make: Make, wire: Wire, patience: Patience, size: int
) -> None:
    store = make(place.bucket, place.prefix, patience=patience)
    await store.head("warm")
    if size > PART_BYTES:
        wire.lose_first("POST", "uploadId=")
    else:
        wire.lose_first("PUT")
    data = bytes(size)
    async with store.upload("x") as up:
        await up.write(data[:PART_BYTES])
        if size > PART_BYTES:
            await up.write(data[PART_BYTES:])
    assert up.crc32c == crc32c.crc32c(data)
    assert await store.get("x") == data
    assert await store.stale_uploads("") == []


async def test_a_body_that_breaks_off_is_read_again(
    seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix)
    await store.put("x", b"0123456789")
    broken = [2]
    real = aiohttp.StreamReader.readany

    async def readany(stream: aiohttp.StreamReader) -> bytes:
        if broken[0]:
            broken[0] -= 1
            raise aiohttp.ClientPayloadError("cut")
        return await real(stream)

    monkeypatch.setattr(aiohttp.StreamReader, "readany", readany)
    assert await store.get("x") == b"0123456789"
    broken[0] = 2
    assert await store.get_range("x", 2, 3) == b"234"
    assert broken[0] == 0
    broken[0] = 10**6
    with pytest.raises(StoreError, match="broke while reading") as caught:
        await store.get_range("x", 2, 3)
    assert caught.value.retryable


# -- checksums --------------------------------------------------------------------------------------------


def test_checksums_are_written_as_s3_does() -> None:
    assert encode_crc32c(crc32c.crc32c(b"hello")) == "mnG7TA=="  # as SeaweedFS and Amazon answer
    assert decode_crc32c({"ChecksumCRC32C": "mnG7TA=="}) == crc32c.crc32c(b"hello")
    assert decode_crc32c({"ChecksumCRC32C": "mnG7TA==", "ChecksumType": "COMPOSITE"}) is None
    for other in ({}, {"ChecksumCRC32C": "mnG7TA==-2"}, {"ChecksumCRC32C": "!!"}, {"ChecksumCRC32C": "AAAA"}):
        assert decode_crc32c(other) is None


async def test_a_wrong_checksum_is_refused_by_the_server(
    seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix)

    def wrong(value: int) -> str:
        return encode_crc32c(value ^ 1)

    monkeypatch.setattr(manner, "encode_crc32c", wrong)
    for write in (store.put("x", b"data"), store.create("x", b"data")):
        with pytest.raises(StoreError, match="other bytes than were sent") as caught:
            await write
        assert caught.value.retryable
    with pytest.raises(StoreError, match="other bytes"):
        async with store.upload("one-part") as up:
            await up.write(b"data")
    with pytest.raises(StoreError, match="other bytes"):
        async with store.upload("two-parts") as up:
            await up.write(bytes(PART_BYTES))
            await up.write(b"data")
    assert [info.key async for info in store.list("")] == []
    assert await store.stale_uploads("") == []


async def test_a_wrong_checksum_of_the_whole_object_is_refused(place: S3Place, make: Make) -> None:
    store = make(place.bucket, place.prefix)
    with pytest.raises(StoreError, match=r"other bytes|damaged"):  # moto takes it: our comparison finds it
        async with store.upload("x") as up:
            await up.write(bytes(PART_BYTES))
            await up.write(b"data")
            up._crc32c ^= 1
    assert await store.stale_uploads("") == []


async def test_the_server_keeps_the_checksum(seaweed_place: S3Place, make: Make) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix)
    data = bytes(range(256)) * 40_000
    for key, parts in (("one", [data[:100]]), ("two", [data[:PART_BYTES], data[PART_BYTES:]])):
        async with store.upload(key) as up:
            for part in parts:
                await up.write(part)
        head = await store.head(key)
        assert head is not None and head.crc32c == crc32c.crc32c(b"".join(parts)) == up.crc32c


async def test_damage_while_reading_is_noticed(
    seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix)
    await store.put("x", b"0123456789")
    real = Connection.read_body
    broken = [1]

    async def read_body(self: Connection, answer: dict[str, Any], key: str, most_bytes: int) -> bytes:
        data = await real(self, answer, key, most_bytes)
        broken[0] -= 1
        return b"X" + data[1:] if broken[0] >= 0 else data

    monkeypatch.setattr(Connection, "read_body", read_body)
    assert await store.get("x") == b"0123456789"  # asked again
    broken[0] = 99
    with pytest.raises(StoreError, match="CRC32C"):
        await store.get("x")


async def test_a_server_that_confirms_no_checksum_is_told_of(
    moto_place: S3Place, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    store = make(moto_place.bucket, moto_place.prefix)
    await store.put("x", b"1")
    await store.put("y", b"1")
    told = [record for record in caplog.records if "does not confirm CRC32C" in record.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize("refused", ["ChecksumType", "IfNoneMatch"])
async def test_degrades_only_where_the_server_refuses(
    seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """A server without one of the parameters: the upload works, and a taken key is still found."""
    from botocore.exceptions import ClientError

    store = make(seaweed_place.bucket, seaweed_place.prefix)
    client = await store._connection._session.client()
    for name in ("create_multipart_upload", "complete_multipart_upload"):
        real = getattr(client, name)

        async def call(_real: Any = real, **parameters: Any) -> Any:
            if refused in parameters:
                meta = {"HTTPStatusCode": 501, "RetryAttempts": 0}
                raise ClientError({"Error": {"Code": "NotImplemented"}, "ResponseMetadata": meta}, "Refused")
            return await _real(**parameters)

        monkeypatch.setattr(client, name, call)
    for _ in range(2):
        async with store.upload("x") as up:
            await up.write(bytes(PART_BYTES))
            await up.write(b"data")
        if refused == "IfNoneMatch":
            break  # an equal object can't be told from another's before it is completed
    assert await store.get("x") == bytes(PART_BYTES) + b"data"
    assert up.crc32c == crc32c.crc32c(bytes(PART_BYTES) + b"data")
    with pytest.raises(StoreError, match="another object"):
        async with store.upload("x") as up:
            await up.write(bytes(PART_BYTES))
            await up.write(b"DATA")
    assert await store.stale_uploads("") == []


# -- uploads ----------------------------------------------------------------------------------------------


async def test_requests_of_an_upload(seaweed_place: S3Place, make: Make, wire: Wire) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix)
    async with store.upload("one") as up:
        await up.write(bytes(PART_BYTES))
    assert [method for method, _ in wire.requests] == ["PUT"]  # no multipart upload for one part
    wire.requests.clear()
    async with store.upload("three") as up:
        for _ in range(3):
            await up.write(bytes(PART_BYTES))
    assert sorted(method for method, _ in wire.requests) == ["HEAD", "POST", "POST", "PUT", "PUT", "PUT"]


async def test_parts_under_way_are_limited_over_the_whole_store(seaweed_place: S3Place, make: Make, wire: Wire) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix, concurrency=2)

    async def one(key: str) -> None:
        async with store.upload(key) as up:
            for _ in range(4):
                await up.write(bytes(PART_BYTES))

    await asyncio.gather(*(one(f"k{n}") for n in range(3)))
    assert wire.parts_most == 2
    assert [info.bytes async for info in store.list("")] == [4 * PART_BYTES] * 3


async def test_a_pace_is_kept_and_is_no_stall(seaweed_place: S3Place, make: Make) -> None:
    impatient = Patience(deadline_s=0, first_s=0, stall_s=1.2, connect_s=5.0)
    store = make(seaweed_place.bucket, seaweed_place.prefix, patience=impatient)
    assert isinstance(store, Paced)
    asked: list[int] = []

    async def pace(most: int) -> int:
        asked.append(most)
        await asyncio.sleep(1.3 if len(asked) < 4 else 0)
        return min(most, 100_000)

    store.pace = pace
    await store.put("x", bytes(1000))
    async with store.upload("y") as up:
        await up.write(bytes(450_000))
    # Heads and headers that went out before come on top, and take some of what was given.
    assert 1000 <= asked[0] < 2500 and all(256 << 10 <= most < (256 << 10) + 20_000 for most in asked[1:3])
    assert len(asked) >= 6 and asked[3] < 350_000 and 50_000 < asked[-1] < 100_000
    assert await store.get("y") == bytes(450_000)


async def test_a_failed_part_fails_the_upload_and_gives_its_place_back(
    seaweed_place: S3Place, make: Make, wire: Wire
) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix, concurrency=2, patience=ONCE)
    await store.head("warm")
    for _ in range(3):  # more failures than places
        wire.lose_first("PUT", "partNumber=2")
        with pytest.raises(StoreError, match="broke"):
            async with store.upload("x") as up:
                for _ in range(5):
                    await up.write(bytes(PART_BYTES))
    assert await store.stale_uploads("") == []
    assert await store.head("x") is None
    async with store.upload("x") as up:
        for _ in range(3):
            await up.write(bytes(PART_BYTES))
    head = await store.head("x")
    assert head is not None and head.bytes == 3 * PART_BYTES


async def test_a_cancel_while_the_upload_begins_leaves_nothing(
    seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(seaweed_place.bucket, seaweed_place.prefix)
    begun = asyncio.Event()
    real = Connection.ask_object

    async def ask_object(self: Connection, operation: str, key: str, **more: Any) -> dict[str, Any]:
        answer = await real(self, operation, key, **more)
        if operation == "create_multipart_upload":
            begun.set()
            await asyncio.sleep(0.2)  # the server has it, the answer is on its way
        return answer

    monkeypatch.setattr(Connection, "ask_object", ask_object)

    async def run() -> None:
        async with store.upload("x") as up:
            await up.write(bytes(PART_BYTES))
            await up.write(bytes(PART_BYTES))

    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.stale_uploads("") == []
    assert await store.head("x") is None


async def test_a_body_is_read_in_order_and_again() -> None:
    data = bytes(range(256)) * 3000
    body = Body(memoryview(data))
    assert len(body) == len(data)
    assert body.read(10) + body.read() == data
    assert body.read(1) == b""
    assert body.seek(-3, 2) == len(data) - 3 and body.read() == data[-3:]
    body.seek(0)
    assert body.tell() == 0
    for _ in range(2):
        assert b"".join([bytes(chunk) async for chunk in body]) == data


# -- errors -----------------------------------------------------------------------------------------------


def everything_in(error: BaseException) -> str:
    """All text that the error and its causes could show anybody."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))


async def failures(store: S3Store) -> list[StoreError]:
    """What each kind of request fails with."""
    found = []

    async def up() -> None:
        async with store.upload("x") as upload:
            await upload.write(bytes(PART_BYTES))
            await upload.write(b"1")

    async def listing() -> None:
        _ = [info async for info in store.list("")]

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get("x"),
        lambda: store.get_range("x", 0, 1),
        lambda: store.head("x"),
        lambda: store.put("x", b"1"),
        lambda: store.create("x", b"1"),
        lambda: store.replace("x", b"1", etag=None),
        lambda: store.delete(["x"]),
        listing,
        up,
        lambda: store.stale_uploads(""),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            await call()
        assert not isinstance(caught.value, NotFoundError)
        found.append(caught.value)
    return found


async def test_wrong_access_key(seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOSUCHKEY")
    errors = await failures(make(seaweed_place.bucket, "p"))
    assert str(errors[0]) == (
        f"the server does not know the access key (s3://tests/p/x at {seaweed_place.server.endpoint_url}); "
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile"
    )
    assert not any(error.retryable for error in errors)
    assert all("access" in str(error) and "check" in str(error) for error in errors)


async def test_wrong_secret_and_token_are_not_shown(
    seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, token = "sEcReT/wrong+0123456789abcdefghij", "tOkEn//session+0123456789abcdefghij=="
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    errors = await failures(make(seaweed_place.bucket, "p"))
    assert "signature" in str(errors[0]) and "secret key" in str(errors[0])
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    errors += await failures(make(seaweed_place.bucket, "p"))
    shown = "".join(everything_in(error) for error in errors) + caplog.text
    assert len(errors) == 20
    for hidden in (secret, token, seaweed_place.server.secret_key):
        assert hidden not in shown


async def test_right_credentials_are_not_logged(
    seaweed_place: S3Place, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = make(seaweed_place.bucket, seaweed_place.prefix)
    assert await store.create("x", b"1")
    async with store.upload("y") as up:
        await up.write(bytes(PART_BYTES))
        await up.write(b"1")
    assert seaweed_place.server.secret_key not in caplog.text
    assert "Signature=" not in caplog.text


async def test_no_credentials(seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for error in await failures(make(seaweed_place.bucket, "p")):
        assert str(error).startswith("no AWS credentials were found (s3://tests/p/")
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    for error in await failures(make(seaweed_place.bucket, "p")):
        assert str(error).startswith("the AWS profile does not exist")


async def test_a_profile_instead_of_the_environment(
    seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, settings = seaweed_place.server, tmp_path / "credentials"
    settings.write_text(f"[dr]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(settings))
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for profile, told in (("dr", None), ("elsewhere", "the AWS profile does not exist"), (None, "no AWS credentials")):
        store = open_store(seaweed_place.uri, endpoint_url=server.endpoint_url, profile=profile, region="eu-north-1")
        try:
            if told is None:
                assert await store.create("x", b"1") and await store.get("x") == b"1"
            else:
                for error in await failures(store):
                    assert str(error).startswith(told)
        finally:
            await store.close()


async def test_may_only_read(seaweed_place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = make(seaweed_place.bucket, seaweed_place.prefix)
    await owner.put("x", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed_place.server.reader_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed_place.server.reader_secret_key)
    reader = make(seaweed_place.bucket, seaweed_place.prefix)
    assert await reader.get("x") == b"1"
    for write in (reader.put("y", b"1"), reader.create("y", b"1"), reader.delete(["x"])):
        with pytest.raises(StoreError, match="access denied") as caught:
            await write
        assert not caught.value.retryable and "/" + seaweed_place.prefix in str(caught.value)
    assert [info.key async for info in owner.list("")] == ["x"]


async def test_missing_bucket(place: S3Place, make: Make) -> None:
    store = make("no-such-bucket", "p")
    for read in (store.get("x"), store.head("x"), store.get_range("x", 0, 1), store.get_range("x", 0, 0)):
        with pytest.raises(StoreError, match="the bucket does not exist") as caught:
            await read
        assert not isinstance(caught.value, NotFoundError)
        assert "s3://no-such-bucket/p" in str(caught.value) and "create it" in str(caught.value)
    with pytest.raises(StoreError, match="the bucket does not exist"):
        _ = [info async for info in store.list("")]


async def test_connection_refused(moto_place: S3Place, make: Make) -> None:
    port = free_port()
    store = make("tests", "p", endpoint_url=f"http://127.0.0.1:{port}", patience=ONCE)
    for error in await failures(store):
        assert "the server refused the connection (s3://tests/p" in str(error)
        assert f"at http://127.0.0.1:{port})" in str(error)
        assert error.retryable


async def test_a_server_that_hangs_up(moto_place: S3Place, make: Make) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = make("tests", "p", endpoint_url=f"http://127.0.0.1:{port}", patience=ONCE)
    for error in await failures(store):
        assert "the connection broke" in str(error) and error.retryable
    server.close()


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (503, "SlowDown", "fewer requests"),
        (500, "InternalError", r"overloaded or failing \(500 InternalError\)"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "ExpiredToken", "token is expired"),
        (301, "PermanentRedirect", "another region"),
        (507, "InsufficientStorage", "no space left"),
        (400, "Odd<b>Code", r"\(400 OddbCode\)"),
    ],
)
async def test_what_servers_answer(moto_place: S3Place, make: Make, status: int, code: str, says: str) -> None:
    body = f"<Error><Code>{code.replace('<', '&lt;')}</Code><Message>sEcReT</Message></Error>".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if asked.startswith(b"HEAD"):  # botocore asks for the bucket's region after a 301
            writer.write(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = make("tests", "p", endpoint_url=f"http://127.0.0.1:{port}", patience=ONCE)
    with pytest.raises(StoreError, match=says) as caught:
        await store.get("x")
    assert "sEcReT" not in str(caught.value)
    assert caught.value.retryable is (code in ("SlowDown", "InternalError"))
    server.close()


# -- listings ---------------------------------------------------------------------------------------------


async def test_pages_of_a_server_that_sorts_are_passed_on(
    place: S3Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Amazon's are. SeaweedFS sorts otherwise: were it trusted, that would be noticed."""
    store = make(place.bucket, place.prefix)
    names = sorted(["q/a/b", "q/a-b", "q/a.b", "q/a0", "q/b"])
    for name in names:
        await store.put(name, b"1")
    monkeypatch.setattr(Connection, "sorts_listings", True)
    if place.server.access_key.startswith("moto"):
        assert [info.key async for info in store.list("q/")] == names
        assert [info.key async for info in store.list("q/", start_after=names[2])] == names[3:]
    else:
        with pytest.raises(StoreError, match="not in order"):
            _ = [info.key async for info in store.list("q/")]


def test_whose_listings_are_trusted() -> None:
    def trusted(bucket: str, endpoint: str) -> bool:
        connection = Connection(bucket, "p", endpoint_url=None, concurrency=1)
        connection._session.endpoint = endpoint
        return connection.sorts_listings

    assert trusted("b", "https://s3.eu-central-1.amazonaws.com")
    assert trusted("b", "https://s3.cn-north-1.amazonaws.com.cn")
    assert not trusted("b--use1-az4--x-s3", "https://s3.eu-central-1.amazonaws.com")
    assert not trusted("b", "http://127.0.0.1:8333")
    assert not trusted("b", "https://amazonaws.com.example.org")

"""Credentials that expire while a store is in use: renewed from where they come, once a request."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from warmspare.errors import StoreError
from warmspare.patience import Patience
from warmspare.store.s3.s3_store import S3Store
from warmspare.store.s3.session.aws_session import AwsAccount

QUICK = Patience(deadline_s=1, first_s=1, pause_s=0.01, most_s=0.05)
_ERROR = b"<Error><Code>%s</Code><Message>no</Message></Error>"


class Server:
    """Takes PutObject from the owner of `good`, and says of all other keys that their token has expired."""

    def __init__(self) -> None:
        self.good = "KEY1"
        self.refused = self.taken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
                await reader.readexactly(length)
                good = f"Credential={self.good}/".encode() in head
                self.taken += good
                self.refused += not good
                body = b"" if good or head.startswith(b"HEAD") else _ERROR % b"ExpiredToken"
                status = b"200 OK" if good else b"400 Bad Request"
                fields = b'ETag: "1"\r\nLast-Modified: Mon, 01 Jan 2035 00:00:00 GMT\r\n' if good else b""
                writer.write(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, fields, len(body)) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a profile's credential process takes the key from, as a role's or a login's helper would."""
    path = tmp_path / "key"
    path.write_text("KEY1")
    script = tmp_path / "process.py"
    fields = {"Version": 1, "SecretAccessKey": "sEcReT", "SessionToken": "tOkEn"}
    script.write_text(
        f"import json\nprint(json.dumps({json.dumps(fields)} | {{'AccessKeyId': open({str(path)!r}).read()}}))\n"
    )
    settings = tmp_path / "config"
    settings.write_text(f"[profile dr]\nregion = us-east-1\ncredential_process = {sys.executable} {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return path


async def test_expired_credentials_are_renewed_while_parts_are_under_way(server: tuple[Server, str], key: Path) -> None:
    remote, url = server
    store = S3Store("bucket", "p", endpoint_url=url, patience=QUICK, account=AwsAccount("dr", None))
    await store.put("a", b"1")
    remote.good = "KEY2"
    key.write_text("KEY2")
    await asyncio.gather(*(store.put(f"k{n}", bytes(100_000)) for n in range(8)))
    assert remote.taken == 9 and 1 <= remote.refused <= 8  # each request was sent twice at most
    before = remote.refused
    await store.put("b", b"1")
    assert remote.refused == before
    remote.good = "KEY3"
    key.write_text("KEY3")
    assert await store.head("x") is not None  # whose refusal has no code
    await store.close()


async def test_what_can_not_be_renewed_is_an_error(server: tuple[Server, str], key: Path) -> None:
    remote, url = server
    store = S3Store("bucket", "p", endpoint_url=url, patience=QUICK, account=AwsAccount("dr", None))
    await store.put("a", b"1")
    remote.good = "KEY2"
    with pytest.raises(StoreError, match="the session token is expired") as caught:
        await store.put("a", b"1")
    assert remote.refused == 2 and not caught.value.retryable
    assert "sEcReT" not in str(caught.value) and "tOkEn" not in str(caught.value)
    await store.close()

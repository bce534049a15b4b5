"""Fixtures for all tests: S3 servers that run once a session, and fresh places in them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from servers import S3Server, moto_server, seaweed_server

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A fresh prefix of a bucket, for one test."""

    server: S3Server
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """As given to open_store and the command line."""
        return f"s3://{self.bucket}/{self.prefix}"


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS server: a real S3 that enforces keys, conditions and checksums."""
    with seaweed_server(tmp_path_factory.mktemp("seaweed")) as server:
        _make_bucket(server, "tests")
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """moto's S3."""
    with moto_server() as server:
        _make_bucket(server, "tests")
        yield server


def _make_bucket(server: S3Server, bucket: str) -> None:
    from botocore.session import get_session

    client = get_session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )
    client.create_bucket(Bucket=bucket)
    client.close()


def use_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """Point the AWS environment of this process at the server; a fresh place there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return S3Place(server, "tests", f"run-{os.getpid()}/{next(_numbers)}")


@pytest.fixture
def seaweed_place(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A fresh prefix on SeaweedFS; the AWS environment (inherited by subprocesses) points there."""
    return use_server(seaweed, monkeypatch)


@pytest.fixture
def moto_place(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A fresh prefix on moto; the AWS environment points there."""
    return use_server(moto, monkeypatch)

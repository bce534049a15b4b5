"""Buckets as sites call them, what the configuration and `--s3` say of them, and the requests that come of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp.resolver
import pytest

from rig import command
from rigs.stores import s3front
from rigs.stores.s3front import Front, Refused
from warmspare.config import s3_settings
from warmspare.config.load import parse
from warmspare.config.problems import SettingsError
from warmspare.engine.repository_place import RepositoryPlace, site_of
from warmspare.errors import ConfigError, StoreError
from warmspare.store.opening import open_store
from warmspare.store.s3.crc64 import crc64nvme, join_crc64nvme
from warmspare.store.s3.manner import Site
from warmspare.store.s3.s3_store import S3Store

POINT = "arn:aws:s3:eu-central-1:111122223333:accesspoint/dr-point"


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """Answers all that reaches it, under whatever host name, by 418."""

    async def resolve(self: Any, host: str, port: int = 0, family: Any = None) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    for name in ("ThreadedResolver", "AsyncResolver"):
        monkeypatch.setattr(getattr(aiohttp.resolver, name), "resolve", resolve)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": "/none",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with s3front.fronting("http://127.0.0.1:9") as made:
        made.rules.append(lambda asked: Refused(418, "Seen"))
        yield made


async def asked_at(front: Front, uri: str, site: Site | None = None) -> tuple[str, str]:
    """Host and path of the first request to a repository."""
    store = open_store(uri, endpoint_url=f"http://localhost:{front.port}", site=site)
    try:
        with pytest.raises(StoreError, match="Seen"):
            await store.put("x", b"1")
    finally:
        await store.close()
    return front.requests[-1].host.partition(":")[0], front.requests[-1].path


@pytest.mark.parametrize(
    ("uri", "host", "path"),
    [
        ("s3://bucket/pre/fix", "localhost", "/bucket/pre/fix/x"),
        ("s3://My_Old.Bucket/p", "localhost", "/My_Old.Bucket/p/x"),
        ("s3://tenant:bucket/p", "localhost", "/tenant%3Abucket/p/x"),
        ("s3://RGW_1:my-bucket", "localhost", "/RGW_1%3Amy-bucket/x"),
        (f"s3://{POINT}/p", "dr-point-111122223333.localhost", "/p/x"),
        (f"s3://{POINT}", "dr-point-111122223333.localhost", "/x"),
    ],
)
async def test_names_that_sites_have(front: Front, uri: str, host: str, path: str) -> None:
    assert await asked_at(front, uri) == (host, path)


async def test_addressing_is_as_it_is_said(front: Front) -> None:
    assert await asked_at(front, "s3://bucket/p", Site(addressing="virtual")) == ("bucket.localhost", "/p/x")
    assert await asked_at(front, "s3://bucket/p", Site(addressing="path")) == ("localhost", "/bucket/p/x")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://arn:aws:s3::111122223333:accesspoint/abc.mrap/p", "multi-region access point"),
        ("s3://arn:aws:s3-object-lambda:eu-west-1:111122223333:accesspoint/x/p", "kind of access point"),
        ("s3://arn:aws:s3-outposts:eu-west-1:111122223333:outpost/op-1/accesspoint/x", "kind of access point"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "no ARN of an S3 access point"),
        ("s3://arn:aws:iam::111122223333:user/x", "no ARN of an S3 access point"),
        ("s3://logs--euw1-az1--x-s3/p", "S3 Express"),
        ("s3://point--euw1-az1--xa-s3/p", "S3 Express"),
        ("s3://ab", "not a valid bucket name"),
        ("s3://a..b/p", "not a valid bucket name"),
        ("s3://-abc/p", "not a valid bucket name"),
        ("s3://b%41d/p", "not a valid bucket name"),
    ],
)
def test_names_that_are_refused(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_store(uri)


def test_credentials_do_not_pass_for_a_tenant() -> None:
    key = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
    for secret in ("hunter2/bucket", f"{key}/b", f"{key.lower()}/b"):
        with pytest.raises(ConfigError) as caught:
            open_store(f"s3://AKIAIOSFODNN7EXAMPLE:{secret}")
        assert secret not in str(caught.value)


# -- what is said of them ---------------------------------------------------------------------------------------------


def settings(more: str, uri: str = "s3://bucket/p") -> Any:
    text = f'[repository.a]\nuri = "{uri}"\n{more}'
    return parse(text, Path("/etc/w.toml")).repositories[0].s3


def test_the_configuration_says_what_a_site_demands() -> None:
    said = 'encryption = "aws:kms"\nkms_key = "alias/dr"\nbucket_key = true\nchecksum = "sha256"\n'
    more = 'addressing = "virtual"\nrequester_pays = true\nsign_payload = true\n'
    site = site_of(settings(said + more))
    assert site == Site("aws:kms", "alias/dr", True, "sha256", "virtual", True, True)
    assert site_of(settings("")) == Site()
    pairs = ["encryption=aws:kms", "kms-key=alias/dr", "bucket-key", "checksum=sha256", "addressing=virtual"]
    assert site_of(s3_settings.parse([*pairs, "requester_pays", "sign_payload=true"])) == site
    assert site_of(s3_settings.parse(["sign_payload=false"])) == Site(sign_payload=False)
    assert RepositoryPlace("s3://b/p").site is None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('encryption = "AES"', "not one of AES256, aws:kms"),
        ('kms_key = "alias/dr"', "with KMS only"),
        ('encryption = "AES256"\nbucket_key = true', "with KMS only"),
        ('checksum = "crc32"', "not one of auto"),
        ('addressing = "host"', "not one of auto, path, virtual"),
        ("requester_pays = 1", "true or false"),
        ('encryption = "aws:kms"\nkms_key = "a b"', "no key of KMS"),
        ("request_payer = true", "unknown key"),
    ],
)
def test_what_is_said_wrong(more: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(more)
    assert len(caught.value.problems) == 1 and says in str(caught.value.problems[0])


@pytest.mark.parametrize("key", ["checksum = 'md5'", "requester_pays = false", "encryption = 'AES256'"])
def test_a_directory_has_no_demands(key: str) -> None:
    with pytest.raises(SettingsError, match="no meaning for a directory"):
        settings(key, uri="/srv/dr")


@pytest.mark.parametrize(
    "pairs",
    [
        ["endpoint=x"],
        ["kms_key=alias/x"],
        ["checksum"],
        ["checksum=crc"],
        ["requester_pays=yes"],
        ["sign_payload"] * 2,
    ],
)
def test_options_that_are_wrong(pairs: list[str], tmp_path: Path) -> None:
    words = [word for pair in pairs for word in ("--s3", pair)]
    outcome = command("points", "--repo", "s3://bucket/p", *words)
    assert outcome.code == 2 and "--s3" in outcome.stderr


def test_the_store_says_how_it_asks() -> None:
    store = open_store("s3://bucket/p", site=Site("aws:kms", "alias/dr", True, requester_pays=True))
    assert isinstance(store, S3Store)
    for words in ("CRC32C", "encryption aws:kms with alias/dr, bucket key", "requester pays"):
        assert words in store.manner()


def test_crc64nvme_is_as_s3_has_it() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888  # the catalogue's check value
    assert crc64nvme(b"") == 0

    def plain(data: bytes) -> int:
        value = (1 << 64) - 1
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0x9A6C9329AC4BC9B5 if value & 1 else 0)
        return value ^ (1 << 64) - 1

    rng = random.Random(1)
    for count in (1, 31, 32, 33, 100, 1025, 5000):
        data = rng.randbytes(count)
        assert crc64nvme(memoryview(data)) == plain(data), count
        at = rng.randrange(count)
        assert join_crc64nvme(crc64nvme(data[:at]), crc64nvme(data[at:]), count - at) == crc64nvme(data)
    long = rng.randbytes((1 << 18) + 77)
    halves = crc64nvme(long[:1000]), crc64nvme(long[1000:])
    assert join_crc64nvme(*halves, len(long) - 1000) == crc64nvme(long)

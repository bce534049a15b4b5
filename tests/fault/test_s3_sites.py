"""What sites demand of requests, and servers that lack something: a front before a real server has a rule for each."""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from rig import MIB, Rig, command, random_disk, same, scribble
from rigs.stores import s3front
from rigs.stores.s3front import Asked, Front, Refused, times, to
from servers import S3Place
from warmspare.errors import StoreError
from warmspare.patience import Patience
from warmspare.store.contract import PART_BYTES
from warmspare.store.s3.deletion import DeletionWay
from warmspare.store.s3.manner import Site
from warmspare.store.s3.s3_store import S3Store
from warmspare.store.s3.session.aws_session import AwsAccount

KEY = "arn:aws:kms:eu-central-1:111122223333:key/0a1b"
QUICK = Patience(deadline_s=3, first_s=3, pause_s=0.01, most_s=0.05)
Make = Callable[..., S3Store]


@pytest.fixture
def front(seaweed_place: S3Place) -> Iterator[Front]:
    with s3front.fronting(seaweed_place.server.endpoint_url) as made:
        yield made


@pytest.fixture
def moto_front(moto_place: S3Place) -> Iterator[Front]:
    """Before moto, which looks at no signature: so the front can keep to itself what neither server has."""
    with s3front.fronting(moto_place.server.endpoint_url) as made:
        made.withheld, made.in_turn = ("x-amz-server-side-encryption", "x-amz-request-payer"), True
        yield made


async def _made(place: S3Place, front: Front) -> AsyncIterator[Make]:
    made: list[S3Store] = []

    def build(**more: Any) -> S3Store:
        settings: dict[str, Any] = {"endpoint_url": front.url, "patience": QUICK, **more}
        made.append(S3Store(place.bucket, place.prefix, **settings))
        return made[-1]

    yield build
    for store in made:
        await store.close()


@pytest_asyncio.fixture
async def make(seaweed_place: S3Place, front: Front) -> AsyncIterator[Make]:
    """Makes stores that reach the server through the front; closed at the end."""
    async for build in _made(seaweed_place, front):
        yield build


@pytest_asyncio.fixture
async def moto_make(moto_place: S3Place, moto_front: Front) -> AsyncIterator[Make]:
    async for build in _made(moto_place, moto_front):
        yield build


async def everything(store: S3Store) -> None:
    """Every kind of request, and what must come of it."""
    assert await store.create("points/1", b"mine") and not await store.create("points/1", b"another's")
    lease = await store.replace("lease", b"1", etag=None)
    assert lease is not None and await store.replace("lease", b"2", etag=lease.etag) is not None
    assert await store.replace("lease", b"3", etag=lease.etag) is None
    data = random.Random(1).randbytes(PART_BYTES + 100)
    for key, whole in (("packs/1", data), ("packs/2", data[:100])):
        async with store.upload(key) as upload:
            for at in range(0, len(whole), PART_BYTES):
                await upload.write(whole[at : at + PART_BYTES])
        info = await store.head(key)
        assert info is not None and info.bytes == len(whole)
    assert await store.get_range("packs/1", PART_BYTES - 10, 50) == data[PART_BYTES - 10 : PART_BYTES + 40]
    assert await store.get("packs/2") == data[:100]
    assert await store.head("nothing") is None
    assert [info.key async for info in store.list("packs/")] == ["packs/1", "packs/2"]
    assert await store.stale_uploads("packs/") == []
    await store.delete(["packs/1", "packs/2", "lease", "points/1", "nothing"])
    assert [info.key async for info in store.list("")] == []


# -- checksums --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [s3front.no_checksums(400), s3front.no_checksums(501), s3front.unnamed_501])
async def test_a_server_that_refuses_checksums_gets_content_md5(
    front: Front, make: Make, rule: s3front.Rule, caplog: pytest.LogCaptureFixture
) -> None:
    front.rules += [rule, s3front.checked_md5]
    store = make()
    await everything(store)
    written = [asked for asked in front.requests if asked.method == "PUT" and not asked.checksums]
    assert written and all("content-md5" in asked.headers for asked in written)
    assert sum(bool(asked.checksums) for asked in front.requests if asked.method in ("PUT", "POST")) <= 2
    told = [record.getMessage() for record in caplog.records if "Content-MD5 is sent instead" in record.getMessage()]
    assert len(told) == 1 and "Content-MD5" in store.manner()


async def test_a_server_without_checksums_of_whole_objects_gets_those_of_parts(front: Front, make: Make) -> None:
    front.rules.append(s3front.no_whole_checksums)
    await everything(make())
    parts = [asked for asked in front.requests if asked.is_part]
    assert parts and all("x-amz-checksum-crc32c" in asked.headers for asked in parts)


async def test_a_condition_that_is_refused_is_not_taken_for_a_checksum(front: Front, make: Make) -> None:
    def rule(asked: Asked) -> Refused | None:
        conditional = asked.method == "PUT" and "if-none-match" in asked.headers
        return Refused(501, "NotImplemented", "A header you provided implies functionality") if conditional else None

    front.rules.append(rule)
    store = make()
    for _ in range(2):
        with pytest.raises(StoreError, match="conditional writes") as caught:
            await store.create("x", b"1")
        assert caught.value.action == "s3:PutObject"
    assert len(front.requests) == 3, "once was enough to see that it is not the checksum"
    await store.put("y", b"1")
    assert "x-amz-checksum-crc32c" in front.requests[-1].headers


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("md5", "content-md5"),
        ("sha256", "x-amz-checksum-sha256"),
        ("none", None),
        ("crc32c", "x-amz-checksum-crc32c"),
        ("crc64nvme", "x-amz-checksum-crc64nvme"),
    ],
)
async def test_the_checksum_that_is_asked_for(front: Front, make: Make, kind: Any, header: str | None) -> None:
    front.rules.append(s3front.checked_md5)
    await everything(make(site=Site(checksum=kind)))
    bodies = [asked for asked in front.requests if asked.method == "PUT"]
    for asked in bodies:
        sums = {name for name in asked.headers if name == "content-md5" or name in asked.checksums}
        assert sums == ({header} if header else set()), asked
    if kind == "sha256":
        digest = base64.b64encode(hashlib.sha256(bodies[0].body).digest()).decode()
        assert bodies[0].headers["x-amz-checksum-sha256"] == digest


async def test_a_named_checksum_is_not_given_up(front: Front, make: Make) -> None:
    front.rules.append(s3front.no_checksums(501))
    store = make(site=Site(checksum="crc32c"))
    with pytest.raises(StoreError, match="does not support checksums") as caught:
        await store.put("x", b"1")
    assert 'checksum = "md5"' in caught.value.hint and len(front.requests) == 1


async def test_a_bucket_with_a_lock_gets_content_md5(front: Front, make: Make) -> None:
    front.rules += [s3front.locked_bucket, s3front.checked_md5]
    await everything(make(site=Site(checksum="none")))


async def test_a_normal_server_is_asked_no_more_than_before(front: Front, make: Make) -> None:
    store = make()
    assert await store.create("x", b"1")
    await store.put("y", b"1")
    await store.get("x")
    await store.delete(["x", "y"])
    assert [asked.method for asked in front.requests] == ["PUT", "PUT", "GET", "POST"]


# -- other demands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "rule"),
    [
        (Site(encryption="AES256"), s3front.encryption_demanded("AES256")),
        (Site(encryption="aws:kms"), s3front.encryption_demanded("aws:kms")),
        (Site(encryption="aws:kms", kms_key=KEY), s3front.encryption_demanded("aws:kms", KEY)),
        (Site(requester_pays=True), s3front.requester_pays),
        (Site(sign_payload=True), s3front.signed_bodies),
    ],
)
async def test_what_a_bucket_demands(moto_front: Front, moto_make: Make, site: Site, rule: s3front.Rule) -> None:
    front, make = moto_front, moto_make
    front.rules.append(rule)
    await everything(make(site=site))
    with pytest.raises(StoreError, match="access denied: s3:PutObject") as caught:
        await make().put("x", b"1")
    assert not caught.value.retryable and caught.value.action == "s3:PutObject"


async def test_the_key_and_the_bucket_key_are_named(front: Front, make: Make) -> None:
    front.rules += [lambda asked: Refused(418, "Passed") if asked.begins else None]
    store = make(site=Site(encryption="aws:kms", kms_key=KEY, bucket_key=True))
    with pytest.raises(StoreError, match="Passed"):
        await store.put("x", b"1")
    with pytest.raises(StoreError, match="Passed"):
        async with store.upload("y") as upload:
            await upload.write(bytes(PART_BYTES))
            await upload.write(b"1")
    assert len(front.requests) == 2
    for asked in front.requests:
        assert asked.headers["x-amz-server-side-encryption-aws-kms-key-id"] == KEY
        assert asked.headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"


async def test_the_region_that_the_server_names_is_taken(
    front: Front, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    front.rules.append(s3front.of_region("eu-central-1"))
    store = make()
    assert await store.head("nothing") is None  # its answer has no body, and says nothing of regions
    await everything(store)
    wrong = [asked for asked in front.requests if asked.region == "us-east-1"]
    assert [asked.method for asked in wrong] == ["HEAD", "GET"], "asked once, with a request whose answer has a body"
    assert sum("the bucket is in region eu-central-1" in record.getMessage() for record in caplog.records) == 1


async def test_a_region_that_does_not_help_is_refused_at_once(front: Front, make: Make) -> None:
    front.rules.append(to("PUT", "", Refused(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})))
    with pytest.raises(StoreError, match="in another region: region eu-west-1"):
        await make().put("x", b"1")
    assert len(front.requests) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_elsewhere_is_refused_at_once(front: Front, make: Make, status: int) -> None:
    answer = Refused(
        status,
        "TemporaryRedirect",
        extra="<Endpoint>b.s3.example.com</Endpoint>",
        headers={"Location": "http://127.0.0.1:9/"},
    )
    front.rules.append(to("PUT", "", answer))
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"endpoint b\.s3\.example\.com"):
        await make().put("x", b"1")
    assert len(front.requests) == 1 and time.monotonic() - begun < QUICK.deadline_s


async def test_the_bucket_goes_into_the_host_name_where_the_path_is_refused(
    front: Front, make: Make, seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aiohttp.resolver

    async def resolve(self: Any, host: str, port: int = 0, family: Any = None) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    for name in ("ThreadedResolver", "AsyncResolver"):
        if hasattr(aiohttp.resolver, name):
            monkeypatch.setattr(getattr(aiohttp.resolver, name), "resolve", resolve)
    refused = Refused(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
    passed = Refused(418, "Passed")
    front.rules.append(lambda asked: passed if asked.host.startswith(f"{seaweed_place.bucket}.") else refused)
    for addressing, count in (("auto", 2), ("virtual", 1)):
        front.requests.clear()
        store = make(endpoint_url=f"http://localhost:{front.port}", site=Site(addressing=addressing))  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="Passed"):
            await store.put("x", b"1")
        assert len(front.requests) == count
    with pytest.raises(StoreError, match="bucket in its host name"):
        await make().put("x", b"1")  # an address has no names below it


async def test_a_host_name_that_is_none_ends_in_what_the_server_said(front: Front, make: Make) -> None:
    front.rules.append(lambda asked: Refused(403, "SecondLevelDomainForbidden", "Please use virtual hosted style."))
    begun = time.monotonic()
    with pytest.raises(StoreError, match="bucket in its host name"):
        await make(endpoint_url=f"http://localhost:{front.port}").put("x", b"1")
    assert time.monotonic() - begun < QUICK.deadline_s


async def test_etags_without_quotes(front: Front, make: Make) -> None:
    front.changed = lambda name, value: value.strip('"') if name == "etag" else value
    await everything(make())


# -- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_head_is_asked_again_where_its_answer_matters(front: Front, make: Make) -> None:
    front.rules.append(lambda asked: Refused(403, "AccessDenied", "not authorized to perform: kms:Decrypt"))
    with pytest.raises(StoreError, match="kms:Decrypt") as caught:
        await make().head("x")
    assert caught.value.action == "kms:Decrypt" and len(front.requests) == 2


async def test_throttling_by_kms_is_waited_out_and_a_disabled_key_is_not(front: Front, make: Make) -> None:
    throttled = Refused(400, "KMS.ThrottlingException", "You have exceeded the rate")
    front.rules.append(times(3, to("PUT", "", throttled)))
    await make().put("x", b"1")
    assert len(front.requests) == 4
    front.rules[:] = [to("PUT", "", Refused(400, "KMS.DisabledException", "arn:aws:kms:x is disabled."))]
    front.requests.clear()
    with pytest.raises(StoreError, match="can't be used") as caught:
        await make().put("x", b"1")
    assert len(front.requests) == 1 and not caught.value.retryable


@pytest.mark.parametrize("status", [200, 500])
async def test_a_page_for_people_is_no_answer(front: Front, make: Make, status: int) -> None:
    """An HTML page with 200 must not pass for an empty listing."""
    page = Refused(status, "", body=b"<html><head><title>Welcome</title></head><body>Sign in</body></html>")
    front.rules.append(lambda asked: page if asked.method == "GET" else None)
    store = make(patience=Patience(deadline_s=0.3, first_s=0.3, pause_s=0.01, most_s=0.05))
    for work in (store.stale_uploads(""), _listed(store)):
        with pytest.raises(StoreError) as caught:
            await work
        assert caught.value.retryable


async def _listed(store: S3Store) -> list[str]:
    return [info.key async for info in store.list("")]


async def test_completing_an_upload_fails_with_200(front: Front, make: Make) -> None:
    def completes(asked: Asked) -> bool:
        return asked.method == "POST" and "uploadId" in asked.query

    late = Refused(200, "InternalError")
    front.rules.append(times(2, lambda asked: late if completes(asked) else None))
    store = make()
    await everything(store)
    assert sum(completes(asked) for asked in front.requests) == 3


# -- deleting ---------------------------------------------------------------------------------------------------------


async def filled(store: S3Store, count: int) -> list[str]:
    keys = [f"packs/{n:03d}" for n in range(count)]
    for key in keys:
        await store.put(key, b"1")
    return keys


@pytest.mark.parametrize(
    ("rules", "way"),
    [
        ([], DeletionWay.MANY),
        ([s3front.md5_to_delete, s3front.checked_md5], DeletionWay.MANY_WITH_MD5),
        ([s3front.no_multi_delete], DeletionWay.ONE_BY_ONE),
        ([lambda asked: Refused(403, "AccessDenied") if asked.deletes_many else None], DeletionWay.ONE_BY_ONE),
        ([lambda asked: Refused(405, "MethodNotAllowed") if asked.deletes_many else None], DeletionWay.ONE_BY_ONE),
    ],
)
async def test_deleting_tries_other_ways(front: Front, make: Make, rules: list[s3front.Rule], way: DeletionWay) -> None:
    store = make()
    front.rules += rules
    for _ in range(2):
        keys = await filled(store, 3)
        await store.delete([*keys, "nothing"])
        assert await _listed(store) == []
    assert store._deletion.way is way
    posts = front.count("POST")
    assert posts == (2 if way is DeletionWay.MANY else 3 if way is DeletionWay.MANY_WITH_MD5 else 2), (
        "what was learnt is kept"
    )


def per_key(code: str, message: str, keys: str) -> s3front.Rule:
    """DeleteObjects answers for some keys with an error each, and does nothing of the rest."""
    import re

    def rule(asked: Asked) -> Refused | None:
        named = [key.decode() for key in re.findall(rb"<Key>([^<]*)</Key>", asked.body)] if asked.deletes_many else []
        if not any(re.search(keys, key) for key in named):
            return None
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>{code}</Code><Message>{message}</Message></Error>"
            for key in named
            if re.search(keys, key)
        )
        return Refused(200, "", body=f"<DeleteResult>{errors}</DeleteResult>".encode())

    return rule


async def test_what_can_not_be_deleted_is_one_error(front: Front, make: Make) -> None:
    store = make()
    keys = await filled(store, 5)
    front.rules.append(per_key("AccessDenied", "Access Denied", "packs/"))
    with pytest.raises(StoreError, match="5 of 5 objects could not be removed: access denied") as caught:
        await store.delete(keys)
    error = caught.value
    assert error.action == "s3:DeleteObject" and not error.retryable
    assert error.where.count("packs/") == 3 and "and 2 more" in error.where
    front.rules[:] = [per_key("AccessDenied", "Access Denied because object protected by object lock.", "packs/001")]
    with pytest.raises(StoreError, match=r"1 of 5 objects .* locked"):
        await store.delete(keys)
    front.rules[:] = [times(2, per_key("SlowDown", "x", "packs/")), times(1, per_key("InternalError", "x", "packs/"))]
    await store.delete(keys)
    assert await _listed(store) == []


async def test_one_by_one_a_refusal_stops_what_is_hopeless_and_nothing_else(front: Front, make: Make) -> None:
    store = make(concurrency=2)
    keys = await filled(store, 40)
    front.rules += [s3front.no_multi_delete, to("DELETE", "", Refused(403, "AccessDenied"))]
    with pytest.raises(StoreError, match="40 of 40 objects"):
        await store.delete(keys)
    assert front.count("DELETE") < 20
    front.rules[1] = to("DELETE", "/000", Refused(403, "AccessDenied", "protected by object lock"))
    with pytest.raises(StoreError, match="1 of 40 objects"):
        await store.delete(keys)
    assert await _listed(store) == ["packs/000"]


# -- the environment's own words --------------------------------------------------------------------------------------


async def test_the_environment_says_that_checksums_are_not_wanted(
    front: Front, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    front.rules.append(s3front.no_checksums(400))
    await everything(make())
    assert not any(asked.checksums for asked in front.requests)


async def test_a_profile_says_how_to_address_and_to_sign(
    front: Front, make: Make, seaweed_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = seaweed_place.server
    config = tmp_path / "config"
    keys = f"aws_access_key_id = {place.access_key}\naws_secret_access_key = {place.secret_key}\n"
    config.write_text(f"[profile site]\n{keys}s3 =\n  addressing_style = virtual\n  payload_signing_enabled = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    front.rules.append(s3front.signed_bodies)
    store = make(account=AwsAccount(profile="site"))
    await everything(store)  # an address stays in the path, whatever the style
    assert "bodies signed" in store.manner()


# -- whole runs -------------------------------------------------------------------------------------------------------


def there_and_back(rig: Rig) -> None:
    """Sync, a change, sync, apply: the replica is the disk."""
    assert command("init", rig.repo, *rig.more).code == 0
    rng = random.Random(2)
    random_disk(rig.disk, 3 * MIB, rng)
    rig.sync()
    scribble(rig.disk, rng)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_strict_site_by_options(moto_front: Front, moto_place: S3Place, tmp_path: Path) -> None:
    front = moto_front
    front.rules += [
        s3front.encryption_demanded("AES256"),
        s3front.requester_pays,
        s3front.signed_bodies,
        s3front.of_region("eu-central-1"),
        times(3, to("PUT", "/packs/", Refused(400, "KMS.ThrottlingException"))),
    ]
    demands = ("encryption=AES256", "requester_pays=true", "sign-payload")
    direct = ["--endpoint-url", moto_place.server.endpoint_url]
    more = [word for demand in demands for word in ("--s3", demand)]
    there_and_back(Rig(tmp_path, repo=moto_place.uri, more=["--endpoint-url", front.url, *more], direct=direct))


def test_a_server_of_fewer_abilities(front: Front, seaweed_place: S3Place, tmp_path: Path) -> None:
    front.rules += [s3front.no_checksums(400), s3front.md5_to_delete, s3front.checked_md5]
    front.changed = lambda name, value: value.strip('"') if name == "etag" else value
    there_and_back(Rig(tmp_path, repo=seaweed_place.uri, more=["--endpoint-url", front.url]))


def test_a_refusal_names_its_action_in_the_event(front: Front, seaweed_place: S3Place, tmp_path: Path) -> None:
    front.rules.append(s3front.requester_pays)
    outcome = command("points", "--repo", seaweed_place.uri, "--endpoint-url", front.url)
    assert outcome.code == 4 and outcome.last("error")["action"] == "s3:GetObject"
    assert "requester_pays" in outcome.stderr

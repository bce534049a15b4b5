"""The stand-in for EBS is strict: each rule that it is there for, broken and kept, by botocore's own client."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from recover.stagerig import client, read_back
from rigs.aws.ebsparts import BLOCK, Faults, Refusal
from rigs.aws.ebsstandin import Standin, serving

ZEROS = bytes(BLOCK)


@pytest.fixture
def account() -> Iterator[tuple[Standin, Any, Any]]:
    """(the stand-in, a client of EBS, one of EC2); neither tries again."""
    standin = Standin(starts_s=1000.0)
    with serving(standin) as url:
        yield standin, client(url, attempts=1), client(url, "ec2", attempts=1)


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put(api: Any, snapshot: str, index: int, data: bytes, **other: Any) -> None:
    given = {"DataLength": BLOCK, "Checksum": checksum(data), "ChecksumAlgorithm": "SHA256"} | other
    api.put_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockData=data, **given)


def refused(call: Callable[[], Any], code: str, reason: str = "") -> None:
    with pytest.raises(ClientError) as caught:
        call()
    said = caught.value.response
    assert (said["Error"]["Code"], said.get("Reason", "")) == (code, reason)


def sealed(api: Any, blocks: dict[int, bytes], **start: Any) -> str:
    snapshot = api.start_snapshot(**{"VolumeSize": 1, **start})["SnapshotId"]
    for index, data in blocks.items():
        put(api, snapshot, index, data)
    rows = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
    api.complete_snapshot(
        SnapshotId=snapshot,
        ChangedBlocksCount=len(blocks),
        Checksum=checksum(rows),
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )
    return str(snapshot)


def test_a_put_must_be_right(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    snapshot = api.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(api, snapshot, 2047, ZEROS)
    assert not standin.breaches
    refused(lambda: put(api, snapshot, 2048, ZEROS), "ValidationException", "INVALID_BLOCK")
    refused(lambda: put(api, snapshot, 0, ZEROS[:-1]), "ValidationException", "INVALID_BLOCK")
    refused(lambda: put(api, snapshot, 0, ZEROS, DataLength=4096), "ValidationException", "INVALID_BLOCK")
    refused(lambda: put(api, snapshot, 0, ZEROS, Checksum=checksum(b"x")), "ValidationException", "INVALID_BLOCK")
    assert len(standin.breaches) == 4
    refused(lambda: put(api, "snap-00", 0, ZEROS), "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")


def test_a_completion_must_be_right(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    snapshot = api.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(api, snapshot, 5, ZEROS)
    put(api, snapshot, 5, ZEROS)  # overwritten: still one block

    def complete(count: int, **more: Any) -> None:
        api.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count, **more)

    refused(lambda: complete(2), "ValidationException", "INVALID_PARAMETER_VALUE")
    wrong = {"Checksum": checksum(ZEROS), "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    refused(lambda: complete(1, **wrong), "ValidationException", "INVALID_PARAMETER_VALUE")
    assert len(standin.breaches) == 2
    complete(1, **(wrong | {"Checksum": checksum(hashlib.sha256(ZEROS).digest())}))
    refused(lambda: put(api, snapshot, 6, ZEROS), "ValidationException", "INVALID_SNAPSHOT_ID")


def test_pending_then_completed(account: tuple[Standin, Any, Any]) -> None:
    standin, api, ec2 = account
    standin.complete_s = 60.0
    snapshot = sealed(api, {0: ZEROS})

    def state() -> str:
        return str(ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"])

    assert state() == "pending"
    refused(lambda: api.list_snapshot_blocks(SnapshotId=snapshot), "ValidationException", "INVALID_SNAPSHOT_ID")
    refused(
        lambda: api.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot),
        "ValidationException",
        "INVALID_DEPENDENCY_REQUEST",
    )
    standin.complete_s = 0.0
    assert state() == "completed"


def test_children_inherit(account: tuple[Standin, Any, Any]) -> None:
    standin, api, ec2 = account
    ones, twos = b"1" * BLOCK, b"2" * BLOCK
    parent = sealed(api, {0: ones, 1: ones, 9: ones})
    child = sealed(api, {1: twos, 9: ZEROS, 3000: twos}, ParentSnapshotId=parent, VolumeSize=2)
    url = api.meta.endpoint_url
    expected = {0: ones, 1: twos, 9: ZEROS, 3000: twos}
    assert read_back(url, child) == expected
    changed = api.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [row["BlockIndex"] for row in changed] == [1, 9, 3000] and "FirstBlockToken" not in changed[2]
    ec2.delete_snapshot(SnapshotId=parent)
    assert read_back(url, child) == expected
    other = sealed(api, {0: ones})
    refused(
        lambda: api.list_changed_blocks(FirstSnapshotId=other, SecondSnapshotId=child),
        "ValidationException",
        "UNRELATED_SNAPSHOTS",
    )
    refused(
        lambda: api.start_snapshot(VolumeSize=1, ParentSnapshotId=child), "ValidationException", "INVALID_VOLUME_SIZE"
    )
    assert not standin.breaches


def test_tokens(account: tuple[Standin, Any, Any]) -> None:
    _, api, _ = account
    snapshot = sealed(api, dict.fromkeys(range(0, 240, 2), ZEROS))
    first = api.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100)
    rest = api.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, NextToken=first["NextToken"])
    assert len(first["Blocks"]) == 100 and len(rest["Blocks"]) == 20 and "NextToken" not in rest
    token = first["Blocks"][0]["BlockToken"]
    refused(
        lambda: api.get_snapshot_block(SnapshotId=snapshot, BlockIndex=2, BlockToken=token),
        "ValidationException",
        "INVALID_BLOCK_TOKEN",
    )
    other = sealed(api, {0: ZEROS})
    refused(
        lambda: api.list_snapshot_blocks(SnapshotId=other, NextToken=first["NextToken"]),
        "ValidationException",
        "INVALID_PAGE_TOKEN",
    )


def test_client_tokens(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    first = api.start_snapshot(VolumeSize=1, ClientToken="t")
    assert api.start_snapshot(VolumeSize=1, ClientToken="t")["SnapshotId"] == first["SnapshotId"]
    refused(lambda: api.start_snapshot(VolumeSize=2, ClientToken="t"), "ConflictException")
    refused(
        lambda: api.start_snapshot(VolumeSize=2, ClientToken="t" * 65), "ValidationException", "INVALID_PARAMETER_VALUE"
    )
    assert len(standin.breaches) == 2 and len(standin.snapshots) == 1


def test_encryption_and_parents_exclude_each_other(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    parent = sealed(api, {}, Encrypted=True, KmsKeyArn=key)
    refused(
        lambda: api.start_snapshot(VolumeSize=1, ParentSnapshotId=parent, Encrypted=True),
        "ValidationException",
        "INVALID_PARAMETER_VALUE",
    )
    refused(lambda: api.start_snapshot(VolumeSize=1, KmsKeyArn=key), "ValidationException", "INVALID_CUSTOMER_KEY")
    child = standin.snapshots[sealed(api, {}, ParentSnapshotId=parent)]
    assert child.encrypted and child.kms_key == key


def test_quotas(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    standin._rates["StartSnapshot"] = 10.0
    codes = []
    for _ in range(40):
        try:
            api.start_snapshot(VolumeSize=1)
        except ClientError as error:
            codes.append((error.response["Error"]["Code"], error.response["Reason"]))
    assert set(codes) == {("RequestThrottledException", "ACCOUNT_THROTTLED")}
    standin.pending_limit = len(standin.snapshots)
    standin._buckets.clear()
    refused(lambda: api.start_snapshot(VolumeSize=1), "ConcurrentLimitExceededException")


def test_a_snapshot_is_not_seen_at_once_and_is_given_up_when_idle(account: tuple[Standin, Any, Any]) -> None:
    standin, api, ec2 = account
    standin.unseen_s = 60.0
    snapshot = api.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    refused(lambda: put(api, snapshot, 0, ZEROS), "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    refused(lambda: ec2.describe_snapshots(SnapshotIds=[snapshot]), "InvalidSnapshot.NotFound")
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    standin.snapshots[snapshot].seen_from = 0.0
    put(api, snapshot, 0, ZEROS)
    standin.snapshots[snapshot].touched -= 601.0
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "error"
    refused(lambda: put(api, snapshot, 0, ZEROS), "ValidationException", "INVALID_SNAPSHOT_ID")


def test_ec2_and_ebs_agree(account: tuple[Standin, Any, Any]) -> None:
    _, api, ec2 = account
    tags = [{"Key": "a", "Value": "<&>"}]
    made = [sealed(api, {}, Tags=tags) for _ in range(7)]
    ec2.create_tags(Resources=[made[0]], Tags=[{"Key": "a", "Value": "other"}])
    pages = ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=["self"], Filters=[{"Name": "tag:a", "Values": ["<&>"]}], PaginationConfig={"PageSize": 5}
    )
    found = [snapshot for page in pages for snapshot in page["Snapshots"]]
    assert {each["SnapshotId"] for each in found} == set(made[1:]) and found[0]["Tags"] == tags
    ec2.delete_snapshot(SnapshotId=made[1])
    refused(lambda: ec2.delete_snapshot(SnapshotId=made[1]), "InvalidSnapshot.NotFound")
    refused(lambda: api.list_snapshot_blocks(SnapshotId=made[1]), "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")


def test_other_actions_go_to_moto() -> None:
    from servers import moto_server

    with moto_server() as moto, serving(Standin(forward_to=moto.endpoint_url)) as url:
        ec2 = client(url, "ec2", attempts=1)
        assert ec2.describe_vpcs()["Vpcs"] and ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_a_block_is_not_written_twice_at_once(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    snapshot = api.start_snapshot(VolumeSize=1)["SnapshotId"]
    standin.put_s = 1.0
    other = client(api.meta.endpoint_url, attempts=1)
    first = threading.Thread(target=put, args=(api, snapshot, 0, b"1" * BLOCK))
    first.start()
    while not standin._writing:
        time.sleep(0.01)
    refused(lambda: put(other, snapshot, 0, b"2" * BLOCK), "ValidationException", "CONFLICTING_BLOCK_UPDATE")
    put(other, snapshot, 1, b"2" * BLOCK)  # beside it
    first.join()
    standin.put_s = 0.0
    put(other, snapshot, 0, b"3" * BLOCK)  # behind it: the last one counts
    found = {index: standin.block(digest)[:1] for index, digest in standin.snapshots[snapshot].blocks.items()}
    assert found == {0: b"3", 1: b"2"} and not standin.breaches


def test_a_start_must_be_right(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    api = client(api.meta.endpoint_url, attempts=1, validate=False)

    def start(**said: Any) -> Callable[[], Any]:
        return lambda: api.start_snapshot(**{"VolumeSize": 1, **said})

    def tags(*pairs: tuple[str, str]) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in pairs]

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"VolumeSize": 65537}, "INVALID_VOLUME_SIZE"),
        ({"Timeout": 9}, "INVALID_PARAMETER_VALUE"),
        ({"Timeout": 4321}, "INVALID_PARAMETER_VALUE"),
        ({"Tags": tags(("aws:x", "1"))}, "INVALID_TAG"),
        ({"Tags": tags(("k" * 128, "1"))}, "INVALID_TAG"),
        ({"Tags": tags(("k", "v" * 256))}, "INVALID_TAG"),
        ({"Tags": tags(("", "1"))}, "INVALID_TAG"),
        ({"Tags": tags(("k", "1"), ("k", "2"))}, "INVALID_TAG"),
        ({"Tags": tags(*((str(number), "1") for number in range(51)))}, "INVALID_TAG"),
        ({"KmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1"}, "INVALID_CUSTOMER_KEY"),
    ]
    for count, (said, reason) in enumerate(wrong, 1):
        refused(start(**said), "ValidationException", reason)
        assert len(standin.breaches) == count and not standin.snapshots, said
    refused(start(ParentSnapshotId="snap-00"), "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    for said in ({"VolumeSize": 65536}, {"Timeout": 10}, {"Timeout": 4320}, {"Tags": tags(("k" * 127, "v" * 255))}):
        start(**said)()
    assert len(standin.breaches) == len(wrong)


def test_a_size_that_botocore_itself_would_not_send(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    for size in (b"0", b"-1", b'"1"', b"null"):
        answer = raw(api, "POST", "/snapshots", b'{"VolumeSize":' + size + b"}")
        assert answer == (400, "INVALID_VOLUME_SIZE"), size
    assert len(standin.breaches) == 4 and not standin.snapshots


def raw(api: Any, method: str, path: str, body: bytes, signature: str = "/ebs/aws4_request") -> tuple[int, str]:
    """A request that no AWS client makes; its status, and reason or code."""
    parts = urlsplit(api.meta.endpoint_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": f"AWS4-HMAC-SHA256 Credential=x{signature}"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        return answer.status, said.get("Reason") or answer.headers.get("x-amzn-ErrorType", "")
    finally:
        connection.close()


def test_a_request_must_be_signed_for_its_service(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    body = b'{"VolumeSize": 1}'
    assert raw(api, "POST", "/snapshots", body, "/ec2/aws4_request") == (403, "AccessDeniedException")
    assert raw(api, "POST", "/snapshots", body, "") == (403, "AccessDeniedException")
    assert not standin.snapshots
    assert raw(api, "POST", "/snapshots", body)[0] == 201 and len(standin.snapshots) == 1


def test_each_breach_is_noted(account: tuple[Standin, Any, Any]) -> None:
    """What a correct client never does fails its test, however it takes the refusal."""
    standin, api, ec2 = account
    snapshot = api.start_snapshot(VolumeSize=1)["SnapshotId"]

    def breach(call: Callable[[], Any], reason: str, says: str, code: str = "ValidationException") -> None:
        before = len(standin.breaches)
        refused(call, code, reason)
        assert len(standin.breaches) == before + 1 and says in standin.breaches[-1]

    breach(lambda: put(api, snapshot, 0, ZEROS, ChecksumAlgorithm="MD5"), "INVALID_PARAMETER_VALUE", "no checksum alg")
    breach(lambda: api.list_snapshot_blocks(SnapshotId=snapshot), "INVALID_SNAPSHOT_ID", "read before")
    breach(
        lambda: api.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot),
        "INVALID_DEPENDENCY_REQUEST",
        "not completed",
    )
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    done = sealed(api, {0: ZEROS, 1: ZEROS})
    for more in ({"Encrypted": True}, {"Encrypted": False}, {"KmsKeyArn": key}):
        breach(
            lambda more=more: api.start_snapshot(VolumeSize=1, ParentSnapshotId=done, **more),  # type: ignore[misc]
            "INVALID_PARAMETER_VALUE",
            "a parent and an encryption",
        )
    for most in (99, 10001):
        path = f"/snapshots/{done}/blocks?maxResults={most}"
        assert raw(api, "GET", path, b"") == (400, "INVALID_PARAMETER_VALUE")
        assert standin.breaches[-1] == f"maxResults={most}"
    for most in (100, 10000):
        assert api.list_snapshot_blocks(SnapshotId=done, MaxResults=most)["Blocks"]
    token = api.list_snapshot_blocks(SnapshotId=done)["Blocks"][0]["BlockToken"]
    assert api.get_snapshot_block(SnapshotId=done, BlockIndex=0, BlockToken=token)["BlockData"].read() == ZEROS
    late = time.time() + 8 * 86400
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rigs.aws.ebsstandin.time.time", lambda: late)
        breach(
            lambda: api.get_snapshot_block(SnapshotId=done, BlockIndex=0, BlockToken=token),
            "INVALID_BLOCK_TOKEN",
            "a token that is not valid",
        )
    child = api.start_snapshot(VolumeSize=1, ParentSnapshotId=done)["SnapshotId"]
    ec2.delete_snapshot(SnapshotId=done)
    assert standin.breaches[-1] == "the parent of a pending snapshot was deleted" and child in standin.snapshots


def test_a_parent_that_may_not_be_smaller(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    parent = sealed(api, {0: ZEROS})
    api.start_snapshot(VolumeSize=2, ParentSnapshotId=parent)
    standin.parents_may_be_smaller = False
    refused(
        lambda: api.start_snapshot(VolumeSize=2, ParentSnapshotId=parent), "ValidationException", "INVALID_VOLUME_SIZE"
    )
    api.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)


def test_a_sealed_snapshot_takes_nothing_however_long_it_is_pending(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account
    standin.complete_s = 60.0
    snapshot = sealed(api, {0: ZEROS})
    assert standin.state(standin.snapshots[snapshot]) == "pending"
    refused(lambda: put(api, snapshot, 1, ZEROS), "ValidationException", "INVALID_SNAPSHOT_ID")


def test_puts_have_a_quota_of_the_account_and_one_of_each_snapshot() -> None:
    """Of the account, refused before the put takes any time; of a snapshot, behind it."""

    def count(snapshots: int, standin: Standin) -> int:
        with serving(standin) as url:
            api = client(url, attempts=1)
            ids = [api.start_snapshot(VolumeSize=1)["SnapshotId"] for _ in range(snapshots)]
            for number in range(40):
                with contextlib.suppress(ClientError):
                    put(api, ids[number % snapshots], number, ZEROS)
        assert set(standin.answers) == {"ok", "RequestThrottledException"}
        return standin.answers["RequestThrottledException"]

    whole, each = (Standin(puts_s=0.001, starts_s=1000.0) for _ in range(2))
    assert count(2, whole) == 38, "two at once, and no more for a long time"
    each._rates["PutSnapshotBlock"] = 1e6
    assert count(4, each) == 32, "two of each"


def test_what_goes_wrong_on_demand(account: tuple[Standin, Any, Any]) -> None:
    standin, api, _ = account

    def start() -> None:
        api.start_snapshot(VolumeSize=1)

    standin.faults = Faults(throttle=1.0)
    refused(start, "RequestThrottledException", "ACCOUNT_THROTTLED")
    standin.faults = Faults(server_error=1.0)
    refused(start, "InternalServerException")
    standin.faults = Faults(refuse=lambda action: Refusal(403, "Wanted", action))
    refused(start, "Wanted")
    assert not standin.snapshots
    for faults, there in ((Faults(cut=1.0), 0), (Faults(lost=1.0), 1)):
        standin.faults = faults
        with pytest.raises(HTTPClientError):
            start()
        assert len(standin.snapshots) == there
    standin.faults = Faults(keeps=lambda index, data: b"x" + data[1:], echo=lambda index, checksum: checksum[::-1])
    (snapshot,) = standin.snapshots
    said = api.put_snapshot_block(
        SnapshotId=snapshot,
        BlockIndex=3,
        BlockData=ZEROS,
        DataLength=BLOCK,
        Checksum=checksum(ZEROS),
        ChecksumAlgorithm="SHA256",
    )
    assert said["Checksum"] == checksum(ZEROS)[::-1]
    assert standin.block(standin.snapshots[snapshot].blocks[3]) == b"x" + ZEROS[1:]
    assert not standin.breaches


def test_the_recycle_bin(account: tuple[Standin, Any, Any]) -> None:
    standin, api, ec2 = account
    standin.retains = True
    snapshot = sealed(api, {0: ZEROS})
    ec2.delete_snapshot(SnapshotId=snapshot)
    assert not ec2.describe_snapshots()["Snapshots"], "AWS shows none that is in the bin"
    refused(lambda: ec2.delete_snapshot(SnapshotId=snapshot), "InvalidSnapshot.NotFound")
    ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)
    assert [each["State"] for each in ec2.describe_snapshots()["Snapshots"]] == ["recovering"]
    refused(lambda: ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot), "InvalidSnapshot.NotFound")


def test_what_ec2_refuses(account: tuple[Standin, Any, Any]) -> None:
    standin, api, ec2 = account
    snapshot = sealed(api, {0: ZEROS})
    standin.in_use[snapshot] = "ami-1"
    refused(lambda: ec2.delete_snapshot(SnapshotId=snapshot), "InvalidSnapshot.InUse")
    standin.in_use.clear()
    for mode in ("compliance", "governance"):
        standin.locks[snapshot] = mode
        refused(lambda: ec2.delete_snapshot(SnapshotId=snapshot), "OperationNotPermitted")
        if mode == "compliance":
            refused(lambda: ec2.unlock_snapshot(SnapshotId=snapshot), "OperationNotPermitted")
    ec2.unlock_snapshot(SnapshotId=snapshot)
    assert snapshot in standin.snapshots
    refused(lambda: ec2.create_tags(Resources=["snap-00"], Tags=[{"Key": "a", "Value": "b"}]), "InvalidID")
    refused(lambda: ec2.describe_snapshots(SnapshotIds=[snapshot], MaxResults=5), "InvalidParameterCombination")
    for most in (4, 1001):
        refused(lambda most=most: ec2.describe_snapshots(MaxResults=most), "InvalidParameterValue")  # type: ignore[misc]
    other = [{"Name": "status", "Values": ["pending"]}]
    refused(lambda: ec2.describe_snapshots(Filters=other), "InvalidParameterValue")
    refused(lambda: ec2.describe_vpcs(), "InvalidAction")

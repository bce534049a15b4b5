"""The stand-in for EBS is strict: each rule that it is there for, broken and kept, by botocore's own client."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ebsparts import BLOCK
from ebsstandin import Standin, serving
from stagerig import client, read_back

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
        SnapshotId=snapshot, ChangedBlocksCount=len(blocks), Checksum=checksum(rows), ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )  # fmt: skip
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
        lambda: api.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot), "ValidationException",
        "INVALID_DEPENDENCY_REQUEST",
    )  # fmt: skip
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
        lambda: api.list_changed_blocks(FirstSnapshotId=other, SecondSnapshotId=child), "ValidationException",
        "UNRELATED_SNAPSHOTS",
    )  # fmt: skip
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
        lambda: api.get_snapshot_block(SnapshotId=snapshot, BlockIndex=2, BlockToken=token), "ValidationException",
        "INVALID_BLOCK_TOKEN",
    )  # fmt: skip
    other = sealed(api, {0: ZEROS})
    refused(
        lambda: api.list_snapshot_blocks(SnapshotId=other, NextToken=first["NextToken"]), "ValidationException",
        "INVALID_PAGE_TOKEN",
    )  # fmt: skip


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
        lambda: api.start_snapshot(VolumeSize=1, ParentSnapshotId=parent, Encrypted=True), "ValidationException",
        "INVALID_PARAMETER_VALUE",
    )  # fmt: skip
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

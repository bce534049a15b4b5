"""What each request to S3 asks of IAM, noted as the AWS client is about to send it, and what the policies in
docs/rights.md give; knows no command.

AWS documents: "Actions, resources, and condition keys for Amazon S3", "Required permissions for Amazon S3 API
operations".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pytest
from aiobotocore.client import AioBaseClient

from rigs.paths import DOCS

RIGHTS = DOCS / "rights.md"
BUCKET, PREFIX = "BUCKET", "PREFIX"  # as the documents write them
# By operation: on the object, or (in `_ON_BUCKET`) on the bucket.
_ON_OBJECT = {
    "GetObject": ("s3:GetObject",),
    "HeadObject": ("s3:GetObject",),
    "PutObject": ("s3:PutObject",),
    "CreateMultipartUpload": ("s3:PutObject",),
    "UploadPart": ("s3:PutObject",),
    "CompleteMultipartUpload": ("s3:PutObject",),
    "AbortMultipartUpload": ("s3:AbortMultipartUpload",),
    "DeleteObject": ("s3:DeleteObject",),
    "ListParts": ("s3:ListMultipartUploadParts",),
}
_ON_BUCKET = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}


@dataclass(frozen=True, order=True, slots=True)
class Right:
    """An action on an ARN, the prefix of the repository written as the documents do."""

    action: str
    resource: str


@dataclass
class Asked:
    """What was asked for below a prefix of a bucket. others: operations on S3 that went elsewhere."""

    bucket: str
    prefix: str
    rights: set[Right] = field(default_factory=set)
    others: list[str] = field(default_factory=list)

    def note(self, operation: str, said: dict[str, Any]) -> None:
        if said.get("Bucket") != self.bucket:
            self.others.append(operation)
        elif operation in _ON_BUCKET:
            self.rights.add(Right(_ON_BUCKET[operation], f"arn:aws:s3:::{BUCKET}"))
        elif operation == "DeleteObjects":
            self.rights |= {self._on(each["Key"], "s3:DeleteObject") for each in said["Delete"]["Objects"]}
        else:
            wanted = _ON_OBJECT[operation]  # another operation is another line of this table, and of the documents
            if said.get("IfMatch") and operation == "PutObject":
                wanted = (*wanted, "s3:GetObject")  # AWS wants both for a write with a condition on the ETag
            self.rights |= {self._on(said["Key"], action) for action in wanted}
            # Without it an absent object is answered by 403 and not by 404.
            if "s3:GetObject" in wanted:
                self.rights.add(Right("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"))

    def _on(self, key: str, action: str) -> Right:
        assert key.startswith(self.prefix + "/"), f"{key} is not of the repository"
        return Right(action, f"arn:aws:s3:::{BUCKET}/{PREFIX}{key.removeprefix(self.prefix)}")


def asked_of(bucket: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Note, from now on, what this process asks of S3."""
    asked, send = Asked(bucket, prefix), AioBaseClient._make_api_call

    async def sending(self: Any, operation: str, said: dict[str, Any]) -> Any:
        if self.meta.service_model.service_name == "s3":
            asked.note(operation, said)
        return await send(self, operation, said)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", sending)
    return asked


@dataclass(frozen=True, slots=True)
class Statement:
    """actions, resources: as patterns of IAM."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def gives(self, right: Right) -> bool:
        return right.action in self.actions and any(fnmatchcase(right.resource, each) for each in self.resources)


def policy(name: str) -> list[Statement]:
    """The statements about S3 of a policy in the documents."""
    found = re.search(rf"<!-- policy: {re.escape(name)} -->\n```json\n(.*?)```", RIGHTS.read_text(), re.DOTALL)
    assert found, f"the documents have no policy {name}"
    document = json.loads(found[1])
    assert document["Version"] == "2012-10-17"
    out = []
    for each in document["Statement"]:
        assert each["Effect"] == "Allow", "what is denied is not looked at here"
        actions = tuple(action for action in each["Action"] if action.startswith("s3:"))
        assert not any("*" in action for action in actions)
        resources = each["Resource"] if isinstance(each["Resource"], list) else [each["Resource"]]
        if actions:
            out.append(Statement(actions, tuple(resources)))
    return out


def lacking(statements: Iterable[Statement], asked: Asked) -> list[Right]:
    """What was asked for and is not given."""
    return sorted(right for right in asked.rights if not any(each.gives(right) for each in statements))


def unused(statements: Iterable[Statement], asked: Asked) -> list[Right]:
    """Each action on each pattern that nothing was asked of."""
    out = []
    for each in statements:
        for action in each.actions:
            for resource in each.resources:
                alone = Statement((action,), (resource,))
                if not any(alone.gives(right) for right in asked.rights):
                    out.append(Right(action, resource))
    return sorted(out)

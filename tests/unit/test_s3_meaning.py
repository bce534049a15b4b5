"""What an S3 server's refusals are taken for: the remedy, another try, the right, feature or place; nothing quoted."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from warmspare.errors import NotFoundError, StoreError
from warmspare.patience import Again
from warmspare.store.s3.meaning import ACTION_OF
from warmspare.store.s3.s3_errors import S3Error, Sent, store_error


def failed(
    status: int,
    code: str,
    message: str = "",
    operation: str = "put_object",
    *,
    condition: bool = False,
    checksum: bool = False,
    headers: dict[str, str] | None = None,
    **details: str,
) -> S3Error:
    response: Any = {
        "Error": {"Code": code, "Message": message, **details},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    sent = Sent(operation, condition=condition, checksum=checksum)
    error = store_error(ClientError(response, "X"), operation.replace("_", " "), "s3://b/k", "https://s3", sent)
    assert isinstance(error, S3Error)
    return error


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (400, "KMS.ThrottlingException", "(KMS) asks for fewer"),
        (400, "KMS.LimitExceededException", "(KMS) asks"),
        (400, "KMS.RequestLimitExceeded", "(KMS) asks"),
        (500, "KMS.KMSInternalException", "(KMS) does not answer"),
        (500, "KMS.DependencyTimeoutException", "(KMS) does not answer"),
        (503, "SlowDown", "fewer requests"),
        (503, "SlowDownRead", "fewer requests"),
        (400, "Throttling", "fewer requests"),
        (400, "ThrottledException", "fewer requests"),
        (429, "TooManyRequests", "fewer requests"),
        (429, "", "fewer"),
        (400, "RequestLimitExceeded", "fewer requests"),
        (403, "BandwidthLimitExceeded", "fewer requests"),
        (503, "XMinioServerNotInitialized", "overloaded or failing"),
        (503, "FlambeException", "overloaded or failing"),
        (500, "InternalError", "overloaded or failing"),
        (502, "502", "overloaded or failing"),
        (409, "OperationAborted", "overloaded or failing"),
        (400, "RequestTimeout", "waited too long"),
        (599, "", "overloaded or failing"),
    ],
)
def test_what_passes_is_tried_on(status: int, code: str, says: str) -> None:
    error = failed(status, code)
    assert says in str(error) and error.again is Again.ALWAYS and error.retryable


@pytest.mark.parametrize(
    ("status", "code", "message", "says"),
    [
        (400, "KMS.DisabledException", "", "enable it in KMS"),
        (400, "KMS.KMSInvalidStateException", "pending deletion", "enable it in KMS"),
        (400, "KMS.NotFoundException", "", "the encryption key does not exist"),
        (400, "KMS.InvalidKeyUsageException", "", "enable it in KMS"),
        (403, "KMS.AccessDeniedException", "", "access denied"),
        (403, "AccountProblem", "", "settle it with the provider"),
        (403, "UserSuspended", "", "settle it"),
        (402, "PaymentRequired", "", "settle it"),
        (403, "InvalidPayer", "", "settle it"),
        (403, "AccessDenied", "Cannot upload files, storage cap exceeded.", "quota or cap"),
        (403, "AccessDenied", "Cannot download file, download bandwidth or transaction (Class B) cap exceeded.", "cap"),
        (403, "AccessDenied", "Your account has its storage limit reached", "quota or cap"),
        (403, "QuotaExceeded", "", "quota or cap"),
        (400, "XMinioAdminBucketQuotaExceeded", "", "quota or cap"),
        (507, "", "", "no space left"),
        (507, "XMinioStorageFull", "", "no space left"),
        (400, "InvalidStorageClass", "", "storage class"),
        (400, "EntityTooLarge", "", "as large"),
        (411, "MissingContentLength", "", "must pass Content-Length on"),
        (413, "", "", "as large"),
        (403, "RequestTimeTooSkewed", "", "set the clock"),
        (403, "RequestExpired", "", "set the clock"),
        (403, "XAmzClockSkewed", "", "set the clock"),
        (400, "ExpiredTokenException", "", "temporary credentials"),
        (409, "BucketAlreadyExists", "", "another account"),
        (418, "Teapot", "", "(418 Teapot)"),
        (400, "Odd", "", "the server refused to put object (400 Odd)"),
        (403, "Odd", "", "access denied"),
        (401, "Odd", "", "refused the credentials"),
        (409, "ObjectLockConfigurationNotFoundError", "", "locked"),
    ],
)
def test_what_stays_ends_at_once(status: int, code: str, message: str, says: str) -> None:
    error = failed(status, code, message)
    assert says in str(error) and error.again is Again.NEVER


def test_a_quota_is_no_matter_of_rights() -> None:
    for message in ("Cannot upload files, storage cap exceeded.", "bucket quota exceeded", "insufficient storage"):
        assert "denied" not in str(failed(403, "AccessDenied", message))
    assert "denied" in str(failed(403, "AccessDenied", "Access Denied"))


@pytest.mark.parametrize("operation", ACTION_OF)
def test_a_403_names_action_and_resource(operation: str) -> None:
    error = failed(403, "AccessDenied", "Access Denied", operation)
    assert error.action == ACTION_OF[operation] and error.action in str(error)
    assert "s3://b/k at https://s3" in error.where


@pytest.mark.parametrize(
    ("message", "action"),
    [
        (
            "User: arn:aws:iam::1:user/u is not authorized to perform: kms:GenerateDataKey on resource: x because no "
            "identity-based policy allows the kms:GenerateDataKey action",
            "kms:GenerateDataKey",
        ),
        ("not authorized to perform: kms:Decrypt on the resource", "kms:Decrypt"),
        ("is not authorized to perform: s3:PutObject on resource: arn", "s3:PutObject"),
        ("is not authorized to perform: s3:PutObjectRetention", "s3:PutObjectRetention"),
        ("kms:sEcReT s3:sEcReT kms:GenerateDataKeysEcReT", "s3:GetObject"),
    ],
)
def test_the_action_that_the_server_names_goes_first(message: str, action: str) -> None:
    error = failed(403, "AccessDenied", message, "get_object")
    assert error.action == action and "sEcReT" not in str(error)


def test_who_denies_it_is_said() -> None:
    error = failed(403, "AccessDenied", "perform: s3:PutObject with an explicit deny in a resource-based policy")
    assert "an explicit deny in a resource-based policy" in str(error) and "encryption" in error.hint


@pytest.mark.parametrize(
    ("operation", "message", "has", "says"),
    [
        ("put_object", "", {"condition": True}, "conditional writes (If-None-Match, If-Match)"),
        (
            "put_object",
            "Header 'x-amz-checksum-crc32c' not implemented",
            {"checksum": True, "condition": True},
            "checksums (x-amz-checksum-crc32c)",
        ),
        ("put_object", "If-Match is not implemented", {"checksum": True, "condition": True}, "(If-Match)"),
        ("delete_objects", "", {}, "deleting several objects at once"),
        ("list_multipart_uploads", "", {}, "listing unfinished uploads"),
        ("create_multipart_upload", "", {}, "multipart uploads"),
        ("list_objects_v2", "", {}, "ListObjectsV2"),
    ],
)
def test_a_501_names_the_feature(operation: str, message: str, has: dict[str, bool], says: str) -> None:
    error = failed(501, "NotImplemented", message, operation, **has)  # type: ignore[arg-type]
    assert says in str(error) and error.again is Again.NEVER and error.unsupported
    if says == "checksums (x-amz-checksum-crc32c)":
        assert 'checksum = "md5"' in error.hint


def test_a_400_names_the_header_that_it_is_about() -> None:
    error = failed(400, "InvalidArgument", "Unsupported header 'x-amz-server-side-encryption' received")
    assert "because of x-amz-server-side-encryption (400 InvalidArgument)" in str(error)
    assert "x-amz-sEcReT" not in str(failed(400, "InvalidArgument", "bad header x-amz-sEcReT"))


@pytest.mark.parametrize(
    ("status", "code", "headers", "details", "says"),
    [
        (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}, {}, "region eu-west-1"),
        (301, "301", {"x-amz-bucket-region": "eu-west-1"}, {}, "region eu-west-1"),
        (400, "AuthorizationHeaderMalformed", {}, {"Region": "cn-north-1"}, "region cn-north-1"),
        (
            307,
            "TemporaryRedirect",
            {},
            {"Endpoint": "b.s3-eu-central-1.amazonaws.com"},
            "endpoint b.s3-eu-central-1.amazonaws.com",
        ),
        (307, "307", {}, {}, "another address for now"),
        (302, "Found", {}, {}, "another address"),
        (400, "IllegalLocationConstraintException", {}, {}, "another region"),
        (301, "PermanentRedirect", {"x-amz-bucket-region": "<sEcReT>"}, {"Endpoint": "sEcReT/x"}, "another region"),
    ],
)
def test_a_redirect_says_where_to(
    status: int, code: str, headers: dict[str, str], details: dict[str, str], says: str
) -> None:
    error = failed(status, code, headers=headers, **details)
    assert says in str(error) and error.again is Again.NEVER and "sEcReT" not in str(error)
    assert error.elsewhere


def test_a_lock_is_told_from_a_lack_of_rights() -> None:
    for code, message in (
        ("AccessDenied", "Access Denied because object protected by object lock."),
        ("InvalidRequest", "Object is WORM protected and cannot be overwritten"),
        ("ObjectUnderRetention", ""),
    ):
        error = failed(403 if code == "AccessDenied" else 400, code, message, "delete_object")
        assert "locked" in str(error) and error.action == "s3:DeleteObject" and error.again is Again.NEVER


def test_an_archived_object_names_its_class() -> None:
    deep = failed(403, "InvalidObjectState", "", "get_object", StorageClass="DEEP_ARCHIVE")
    tiered = failed(
        403, "InvalidObjectState", "", "get_object", StorageClass="INTELLIGENT_TIERING", AccessTier="ARCHIVE_ACCESS"
    )
    odd = failed(403, "InvalidObjectState", "", "get_object", StorageClass="sEcReT")
    assert "(DEEP_ARCHIVE)" in str(deep) and "(INTELLIGENT_TIERING, ARCHIVE_ACCESS)" in str(tiered)
    assert "archived" in str(odd) and "sEcReT" not in str(odd)


def test_a_200_that_holds_an_error_counts_by_its_code() -> None:
    """The client gives it status 500."""
    assert failed(500, "AccessDenied").again is Again.NEVER
    busy = failed(500, "InternalError", operation="complete_multipart_upload")
    assert busy.again is Again.ALWAYS and busy.lost
    assert not failed(500, "KMS.DisabledException").lost


def test_a_server_says_how_long_to_wait() -> None:
    assert failed(429, "", headers={"retry-after": "7"}).wait_s == 7
    assert failed(503, "SlowDown", headers={"retry-after": "86400"}).wait_s == 60
    assert failed(503, "SlowDown", headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}).wait_s == 0


def test_what_is_not_there() -> None:
    response: Any = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404, "HTTPHeaders": {}}}
    error = store_error(ClientError(response, "X"), "head object", "s3://b/k", "", Sent("head_object"))
    assert isinstance(error, NotFoundError)
    gone: StoreError = failed(404, "NoSuchBucket")
    assert not isinstance(gone, NotFoundError) and "bucket does not exist" in str(gone)

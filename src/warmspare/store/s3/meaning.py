"""What an S3 server's refusal means, by its code, its status and a few fixed words of its text; refuses to repeat any
text of a server's: only words that stand in this file are ever found in it.

Servers have codes of their own (KMS.ThrottlingException, XMinioStorageFull), and new ones come. So the known codes
stand first, then what a code ends in or has in it, and only then the status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from warmspare.patience import Again


@dataclass(frozen=True, slots=True)
class RefusalMeaning:
    """what, hint: as an error's. retryable: whether the same command may succeed later with nothing changed by hand.
    again: what another try of this request is worth. refusal: it is a matter of rights, so that the action counts."""

    what: str
    hint: str
    retryable: bool = False
    again: Again = Again.NEVER
    refusal: bool = False


LATER: Final = "run again later"
_KEYS: Final = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile"

TOKEN: Final = RefusalMeaning("the session token is expired or invalid", "get new temporary credentials")
REGION: Final = RefusalMeaning("the bucket is in another region", "set AWS_REGION to the bucket's region")
REDIRECT: Final = RefusalMeaning(
    "the server sends us to another address", "set the endpoint URL, or AWS_REGION, to where the bucket is"
)
NEW_BUCKET: Final = RefusalMeaning(
    "the server sends us to another address for now",
    "set AWS_REGION to the bucket's region; a new bucket takes a while",
    retryable=True,
)
DENIED: Final = RefusalMeaning("access denied", "", refusal=True)
ACCOUNT: Final = RefusalMeaning("the account can't use the server", "settle it with the provider")
CREDENTIALS: Final = RefusalMeaning("the server refused the credentials", _KEYS)
SIGNATURE: Final = RefusalMeaning("the server refused the signature: the secret key is wrong", _KEYS)
CLOCK: Final = RefusalMeaning("this host's clock differs too much from the server's", "set the clock")
BUSY: Final = RefusalMeaning("the server is overloaded or failing", LATER, retryable=True, again=Again.ALWAYS)
SLOWER: Final = RefusalMeaning(
    "the server asks for fewer requests", "lower the concurrency or " + LATER, retryable=True, again=Again.ALWAYS
)
KMS_SLOWER: Final = RefusalMeaning(
    "the key service (KMS) asks for fewer requests",
    "use a bucket key, raise its quota or " + LATER,
    retryable=True,
    again=Again.ALWAYS,
)
KMS_BUSY: Final = RefusalMeaning(
    "the key service (KMS) does not answer the server", LATER, retryable=True, again=Again.ALWAYS
)
KMS_KEY: Final = RefusalMeaning(
    "the key that is to encrypt the object can't be used", "enable it in KMS, or name another"
)
KMS_ABSENT: Final = RefusalMeaning(
    "the encryption key does not exist", "correct kms_key or the bucket's default encryption; it must be in its region"
)
DAMAGED: Final = RefusalMeaning(
    "the server received other bytes than were sent",
    "check the network path and run again",
    retryable=True,
    again=Again.FEW,
)
FULL: Final = RefusalMeaning("the server has no space left", "free some or raise the quota")
CAP: Final = RefusalMeaning("a quota or cap of the account is reached", "free some space or raise the quota or cap")
UNSUPPORTED: Final = RefusalMeaning(
    "the server does not support the request", "use a server with S3's conditional writes"
)
ARCHIVED: Final = RefusalMeaning(
    "the object is archived", "restore it to a storage class with instant access, and end the rule that archives it"
)
PATH_STYLE: Final = RefusalMeaning(
    "the server wants the bucket in its host name", 'set addressing = "virtual", and a host name as endpoint URL'
)
LOCKED: Final = RefusalMeaning("the object is locked: retention, legal hold or WORM", "wait until the lock ends")
TIMEOUT: Final = RefusalMeaning(
    "the server waited too long for our bytes", "check the network and " + LATER, retryable=True, again=Again.ALWAYS
)
SHORT: Final = RefusalMeaning(
    "the server received fewer bytes than were sent",
    "check the network and " + LATER,
    retryable=True,
    again=Again.ALWAYS,
)
TOO_LARGE: Final = RefusalMeaning(
    "the server takes no object or part as large", "raise its limit: parts have 8 MiB, objects some GiB"
)
NO_LENGTH: Final = RefusalMeaning(
    "the server or a proxy before it lost the length of the request", "check the proxy: it must pass Content-Length on"
)
STORAGE_CLASS: Final = RefusalMeaning(
    "the server does not know the storage class", "correct the bucket's default or lifecycle rule"
)
FEWER: Final = RefusalMeaning(
    "the part of an upload is too small for the server", "use a server that takes parts of 8 MiB"
)
MD5: Final = RefusalMeaning("the server demands Content-MD5", 'set checksum = "md5"')

_CODES: Final = {
    "NoSuchBucket": RefusalMeaning("the bucket does not exist", "create it or correct the URI"),
    "AccessDenied": DENIED,
    "InvalidAccessKeyId": RefusalMeaning("the server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": SIGNATURE,
    "AccountProblem": ACCOUNT,
    "NotSignedUp": ACCOUNT,
    "InvalidPayer": ACCOUNT,
    "OptInRequired": ACCOUNT,
    "UserSuspended": ACCOUNT,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "PermanentRedirect": REGION,
    "TemporaryRedirect": NEW_BUCKET,
    "Redirect": REDIRECT,
    "SecondLevelDomainForbidden": PATH_STYLE,
    "SlowDown": SLOWER,
    "ServiceUnavailable": BUSY,
    "InternalError": BUSY,
    "RequestTimeout": TIMEOUT,
    "IncompleteBody": SHORT,
    "OperationAborted": BUSY,
    "MissingContentMD5": MD5,
    "MissingContentLength": NO_LENGTH,
    "EntityTooLarge": TOO_LARGE,
    "MaxMessageLengthExceeded": TOO_LARGE,
    "EntityTooSmall": FEWER,
    "InvalidStorageClass": STORAGE_CLASS,
    "InvalidObjectState": ARCHIVED,
    "NoSuchUpload": RefusalMeaning("the upload was ended by someone else", "run again", retryable=True),
    "PreconditionFailed": RefusalMeaning("the object was changed by someone else", "run again", retryable=True),
    "ConditionalRequestConflict": RefusalMeaning(
        "someone else wrote the object at the same moment", "run again", retryable=True
    ),
    "InvalidRange": RefusalMeaning("the object is shorter than expected", "it is damaged; verify the repository"),
    "MalformedXML": DAMAGED,
    "MethodNotAllowed": UNSUPPORTED,
    "BucketAlreadyExists": RefusalMeaning("the bucket belongs to another account", "use another bucket"),
    "BucketAlreadyOwnedByYou": RefusalMeaning("the bucket is there already", "run again", retryable=True),
    "KMS.NotFoundException": KMS_ABSENT,
    "KMS.KeyUnavailableException": KMS_BUSY,
    "KMS.InvalidKeyUsageException": KMS_KEY,
    "KMS.DryRunOperationException": KMS_KEY,
}
# What a code has in it, the most telling first. Prefixes (KMS., XMinio) are of no account here.
_PARTS: Final = (
    (r"^KMS\..*(Throttl|LimitExceeded|RequestLimit|TooMany)", KMS_SLOWER),
    (r"^KMS\..*(Disabled|InvalidState|PendingDeletion|InvalidKey|IncorrectKey|InvalidGrant|UnsupportedOp)", KMS_KEY),
    (r"^KMS\..*NotFound", KMS_ABSENT),
    (r"^KMS\..*(AccessDenied|NotAuthorized|Forbidden)", DENIED),
    (r"^KMS\..*(Internal|Timeout|TimedOut|Unavailable|Dependency)", KMS_BUSY),
    (r"(NotImplemented|Unsupported|NotSupported)", UNSUPPORTED),
    (r"(InsufficientStorage|StorageFull|DiskFull|NoSpace|OutOfSpace)", FULL),
    (r"(Quota|(Storage|Capacity|Space|Transaction|Download|Upload|Size)(Cap|Limit)|CapExceeded|OverLimit)", CAP),
    (r"(Throttl|SlowDown|TooManyRequests|LimitExceeded|RateExceeded|TooBusy|ServerBusy)", SLOWER),
    (r"(PendingDeletion|Suspended|AccountProblem|InArrears|Overdue|PaymentRequired)", ACCOUNT),
    (r"(TimeTooSkewed|ClockSkew|RequestExpired|RequestInTheFuture|TimestampOutOfRange|InvalidTimestamp)", CLOCK),
    (r"(ExpiredToken|TokenExpired|InvalidToken|TokenRefresh|ExpiredCredential)", TOKEN),
    (r"(SignatureDoesNotMatch|InvalidSignature|SignatureMismatch|BadSignature)", SIGNATURE),
    (r"(AccessKey|AccessKeyId|InvalidSecurity|InvalidClientToken)", CREDENTIALS),
    (r"(ObjectLock|Retention|LegalHold|WORM|Immutable)", LOCKED),
    (r"(BadDigest|InvalidDigest|ChecksumMismatch|SHA256Mismatch|ChecksumInvalid)", DAMAGED),
    (r"(AccessDenied|Forbidden|Unauthorized|NotAuthorized|AllAccessDisabled|AccessForbidden)", DENIED),
    (r"(ObjectState|Archived|NotRestored|Glacier)", ARCHIVED),
    (r"(PathStyle|VirtualHost|DomainForbidden)", PATH_STYLE),
    (r"(WrongRegion|RegionMismatch|InvalidRegion|InvalidLocation)", REGION),
    (r"Redirect", REDIRECT),
    (r"(InternalError|InternalFailure|ServiceUnavailable|TryAgain|ServerNotInitialized|BackendDown)", BUSY),
    (r"(RequestTimeout|RequestTimedOut)", TIMEOUT),
)
_FAMILIES: Final = tuple((re.compile(pattern), meaning) for pattern, meaning in _PARTS)
_STATUSES: Final = {
    301: REGION,
    302: REDIRECT,
    303: REDIRECT,
    307: NEW_BUCKET,
    308: REDIRECT,
    401: CREDENTIALS,
    402: ACCOUNT,
    403: DENIED,
    405: UNSUPPORTED,
    411: NO_LENGTH,
    413: TOO_LARGE,
    429: SLOWER,
    501: UNSUPPORTED,
    505: UNSUPPORTED,
    507: FULL,
    509: CAP,
}

# What servers say under a code that means another thing: Backblaze's caps are an AccessDenied, a lock is one at Amazon.
_CAP_WORDS: Final = re.compile(
    r"\b(storage|capacity|quota|space|transaction|download|upload|bandwidth|usage|account|bucket|size|disk)s?\b"
    r"[\w ,'-]{0,40}\b(cap|caps|quota|limit|limits|full)\b[\w ,'-]{0,20}\b(exceeded|reached|hit|over)\b"
    r"|\b(quota|cap) (is |has been |was )?(exceeded|reached)\b|\binsufficient (storage|space|capacity|quota)\b",
    re.IGNORECASE,
)
_LOCK_WORDS: Final = re.compile(
    r"\b(object[ -]?lock\w*|retention|legal hold|WORM|immutab\w+|governance mode|compliance mode)\b", re.IGNORECASE
)
_PATH_WORDS: Final = re.compile(r"\bvirtual[ -]host(ed)?[ -]style\b|\bpath[ -]style (access )?is (not|no)\b", re.I)
_MD5_WORDS: Final = re.compile(r"\bcontent-?md5\b", re.IGNORECASE)
_DENIERS: Final = re.compile(
    r"\bexplicit deny in an? (resource-based policy|identity-based policy|service control policy|"
    r"resource control policy|session policy|permissions boundary|VPC endpoint policy)\b"
)
_ACTIONS: Final = re.compile(
    r"\b(?:s3:(?:(?:Get|Put|Delete)Object(?:Version|Retention|LegalHold|Tagging)?|ListBucket(?:MultipartUploads)?"
    r"|AbortMultipartUpload|ListMultipartUploadParts|BypassGovernanceRetention)"
    r"|kms:(?:Decrypt|Encrypt|GenerateDataKey(?:WithoutPlaintext)?|ReEncrypt(?:From|To)|DescribeKey|CreateGrant))(?!\w)"
)
_HEADERS: Final = re.compile(
    r"\b(if-none-match|if-match|content-md5|x-amz-sdk-checksum-algorithm|x-amz-content-sha256|x-amz-request-payer"
    r"|x-amz-checksum-(?:crc32c|crc32|sha1|sha256|crc64nvme|type|algorithm|mode)"
    r"|x-amz-server-side-encryption(?:-aws-kms-key-id|-bucket-key-enabled|-context)?)(?![\w-])",
    re.IGNORECASE,
)
_REGION_NAME: Final = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,12}){0,4}")
_HOST_NAME: Final = re.compile(r"(?=.{4,120}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_CLASSES: Final = ("GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")

ACTION_OF: Final = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "delete_objects": "s3:DeleteObject",
    "delete_object": "s3:DeleteObject",
}
"""The right that each request of ours needs."""

_FEATURE_OF: Final = {
    "create_multipart_upload": "multipart uploads",
    "upload_part": "multipart uploads",
    "complete_multipart_upload": "multipart uploads",
    "abort_multipart_upload": "multipart uploads",
    "list_multipart_uploads": "listing unfinished uploads",
    "list_objects_v2": "listing objects (ListObjectsV2)",
    "delete_objects": "deleting several objects at once",
    "delete_object": "deleting objects",
}


def meaning_of(code: str, status: int, text: str) -> RefusalMeaning:
    """What a code means. text: the server's message, of which only known words count."""
    known = _CODES.get(code) or next((kind for pattern, kind in _FAMILIES if pattern.search(code)), None)
    known = known or _STATUSES.get(status)
    if known in (DENIED, None, UNSUPPORTED, REDIRECT, NEW_BUCKET) and _PATH_WORDS.search(text):
        return PATH_STYLE
    if known in (DENIED, None) and status < 500:
        if _LOCK_WORDS.search(text) and "lock parameters" not in text.lower():
            return LOCKED
        if _CAP_WORDS.search(text):
            return CAP
    if known is None and status >= 500:
        return BUSY
    return known or RefusalMeaning("", "see the server's log")


def storage_class(code: str, details: dict[str, object]) -> str:
    """ " (DEEP_ARCHIVE)" where a server says in which class an archived object is; else ""."""
    if code != "InvalidObjectState":
        return ""
    named = [str(details.get(name, "")) for name in ("StorageClass", "AccessTier")]
    return " (" + ", ".join(name for name in named if name in _CLASSES) + ")" if set(named) & set(_CLASSES) else ""


def refused_action(operation: str, text: str) -> str:
    """The right that was refused: the one that the server names, if requests of ours need it, or the request's."""
    named = _ACTIONS.search(text)
    return named[0] if named else ACTION_OF.get(operation, "")


def explained(meaning: RefusalMeaning, operation: str, text: str) -> RefusalMeaning:
    """A refusal with its action, who denies it, and what to do."""
    action = refused_action(operation, text)
    denier = _DENIERS.search(text)
    what = f"access denied: {action or 'the request'} is refused"
    if denier:
        what += f" by an explicit deny in a {denier[1]}".replace("a identity", "an identity")
    if action.startswith("kms:"):
        hint = f"allow it {action} on the key that encrypts the object"
    elif denier:
        hint = f"allow them {action} there, or set what that policy demands, like encryption (docs/s3.md)"
    elif action:
        demands = ("encryption, " if action == "s3:PutObject" else "") + "requester_pays, sign_payload"
        hint = f"check the keys and allow them {action}, or set what the bucket demands ({demands}: docs/s3.md)"
    else:
        hint = "check the keys and allow them this action on the bucket"
    return replace(meaning, what=what, hint=hint)


def named_header(text: str) -> str:
    """A header of ours that the server's text names, in lower case; "" for none."""
    found = _HEADERS.search(text)
    return found[1].lower() if found else ""


def demands_md5(code: str, text: str) -> bool:
    """Whether the server wants Content-MD5, or a checksum, where there was none."""
    if code in ("InvalidRequest", "InvalidArgument"):
        return bool(_MD5_WORDS.search(text))
    return code == "MissingContentMD5"


def feature(operation: str, text: str, *, condition: bool, checksum: bool, encryption: bool) -> str:
    """What a server does not support, in words. condition, checksum, encryption: whether the request had one."""
    header = named_header(text)
    if header in ("if-none-match", "if-match"):
        return f"conditional writes ({'If-None-Match' if header == 'if-none-match' else 'If-Match'})"
    if "checksum" in header:
        return f"checksums ({header})"
    if "encryption" in header:
        return f"encryption ({header})"
    if header:
        return header
    if operation in _FEATURE_OF and not (condition or checksum or encryption):
        return _FEATURE_OF[operation]
    said = [
        words
        for words, there in (
            ("conditional writes (If-None-Match, If-Match)", condition),
            ("checksums", checksum),
            ("encryption headers", encryption),
        )
        if there
    ]
    if operation in _FEATURE_OF:
        said.insert(0, _FEATURE_OF[operation])
    return " or ".join(said)


def region_in(details: dict[str, object], headers: dict[str, str]) -> str:
    """The region that an answer says the bucket is in; "" for none or an odd one."""
    region = str(headers.get("x-amz-bucket-region") or details.get("Region") or "")
    return region if _REGION_NAME.fullmatch(region) and len(region) <= 40 else ""


def endpoint_in(details: dict[str, object]) -> str:
    """The host that a redirect names; "" for none or an odd one."""
    host = str(details.get("Endpoint") or "").lower()
    return host if _HOST_NAME.fullmatch(host) else ""

"""How requests are put to one S3 server: what its site demands, and what was learnt of the server from its refusals;
refuses to send, and to let a way go for good before another has worked.

This is the only place that adds encryption headers, checksums and who pays to a request.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from warmspare.store.contract import PART_BYTES
from warmspare.store.s3.body import encode_crc32c
from warmspare.store.s3.s3_errors import S3Error, Sent

log = logging.getLogger("warmspare.store")

Checksum = Literal["auto", "none", "md5", "crc32c", "sha256", "crc64nvme"]
Addressing = Literal["auto", "path", "virtual"]
Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]

_BEGINS: Final = ("put_object", "create_multipart_upload")
_WRITES: Final = (*_BEGINS, "upload_part", "complete_multipart_upload")
_READS: Final = ("get_object", "head_object")


@dataclass(frozen=True, slots=True)
class Site:
    """What a site demands of requests.

    encryption, kms_key, bucket_key: server-side encryption of what is written; None: as the bucket has it.
    checksum: what proves to the server that it received what was sent; "auto" finds what it takes. addressing: of the
    bucket; "auto" is the AWS environment's. requester_pays: we pay for requests and downloads. sign_payload: the
    signature covers bodies; None: as the environment says, else over plain HTTP to another host.
    """

    encryption: Encryption | None = None
    kms_key: str | None = None
    bucket_key: bool | None = None
    checksum: Checksum = "auto"
    addressing: Addressing = "auto"
    requester_pays: bool = False
    sign_payload: bool | None = None


NO_SITE: Final = Site()


@dataclass(frozen=True, slots=True)
class Ways:
    """checksum: of bodies. whole: multipart uploads get one of the whole object. reads: they are asked for."""

    checksum: Checksum = "crc32c"
    whole: bool = True
    reads: bool = True


class Manner:
    """ways: those of the next request. A way that was refused is left at once; that is said when the other has worked,
    and it is gone back to if the other is refused too: then it was not that."""

    def __init__(self, site: Site = NO_SITE) -> None:
        self.site = site
        self.ways = Ways("crc32c" if site.checksum == "auto" else site.checksum)
        self._auto = site.checksum == "auto"
        self.md5_deletes = False  # DeleteObjects with Content-MD5: see deletion.py
        self._before: Ways | None = None
        self._hopeless: set[tuple[str, Ways]] = set()

    def follow(self, *, requests: bool, answers: bool) -> None:
        """What the AWS environment says of checksums, where the site says nothing."""
        if self._auto and self._before is None and not requests and self.ways.checksum == "crc32c":
            self.ways = replace(self.ways, checksum="none", whole=False)
        if self._auto and not answers:
            self.ways = replace(self.ways, reads=False)

    # -- what is put to requests ---------------------------------------------------------------------------

    def dressed(self, operation: str, parameters: dict[str, Any]) -> tuple[dict[str, Any], Sent]:
        """The request with all that the site demands, and what of it a server may refuse."""
        said = dict(parameters)
        if self.site.requester_pays:
            said["RequestPayer"] = "requester"
        if operation in _BEGINS:
            said.update(self._encryption())
        if operation in _READS and not self.ways.reads:
            said.pop("ChecksumMode", None)
        return said, Sent(
            operation,
            condition="IfNoneMatch" in said or "IfMatch" in said,
            checksum=any(name.startswith("Checksum") or name == "ContentMD5" for name in said)
            or operation == "delete_objects",
            encryption="ServerSideEncryption" in said,
            ways=self.ways,
        )

    def sums(self, data: bytes | bytearray | memoryview, crc32c: int) -> dict[str, str]:
        """The checksum of a body, as the field of its request. crc32c: its CRC32C, which is always known."""
        kind = self.ways.checksum
        if kind == "crc32c":
            return {"ChecksumCRC32C": encode_crc32c(crc32c)}
        if kind == "md5":
            return {"ContentMD5": _base64(hashlib.md5(data, usedforsecurity=False).digest())}
        if kind == "sha256":
            return {"ChecksumSHA256": _base64(hashlib.sha256(data).digest())}
        if kind == "crc64nvme":
            from warmspare.store.s3.crc64 import crc64nvme  # here: it needs numpy, and who only lists does not

            return {"ChecksumCRC64NVME": _base64(crc64nvme(data).to_bytes(8, "big"))}
        return {}

    def upload_kinds(self) -> dict[str, str]:
        """What CreateMultipartUpload says of checksums."""
        if self.ways.checksum == "sha256":
            return {"ChecksumAlgorithm": "SHA256"}
        if self.ways.checksum in ("crc32c", "crc64nvme") and self.ways.whole:
            return {"ChecksumAlgorithm": self.ways.checksum.upper(), "ChecksumType": "FULL_OBJECT"}
        return {}

    def completing(self, kinds: dict[str, str], parts: list[dict[str, Any]], crc32c: int, count: int) -> dict[str, Any]:
        """What CompleteMultipartUpload says of parts and checksums. kinds: what the upload was begun with. parts: in
        their order, with what they were sent with. crc32c, count: of the object, and its bytes."""
        kind = kinds.get("ChecksumAlgorithm", "") if kinds == self.upload_kinds() else ""
        fields = ("PartNumber", "ETag", f"Checksum{kind}")
        said: dict[str, Any] = {
            "MultipartUpload": {"Parts": [{name: part[name] for name in fields if name in part} for part in parts]}
        }
        if kind == "CRC32C":
            said |= {"ChecksumCRC32C": encode_crc32c(crc32c), "ChecksumType": "FULL_OBJECT"}
        if kind == "CRC64NVME":
            from warmspare.store.s3.crc64 import join_crc64nvme

            whole = 0
            for number, part in enumerate(parts):
                size = min(PART_BYTES, count - number * PART_BYTES)
                value = int.from_bytes(base64.b64decode(part["ChecksumCRC64NVME"]), "big")
                whole = join_crc64nvme(whole, value, size) if number else value
            said |= {"ChecksumCRC64NVME": _base64(whole.to_bytes(8, "big")), "ChecksumType": "FULL_OBJECT"}
        return said

    def delete_by_md5(self) -> bool:
        """Whether DeleteObjects gets Content-MD5 in place of the client's own checksum."""
        return self.md5_deletes or self.ways.checksum in ("md5", "none")

    def _encryption(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if self.site.encryption:
            said["ServerSideEncryption"] = self.site.encryption
        if self.site.kms_key:
            said["SSEKMSKeyId"] = self.site.kms_key
        if self.site.bucket_key is not None:
            said["BucketKeyEnabled"] = self.site.bucket_key
        return said

    # -- what is learnt ------------------------------------------------------------------------------------

    def learn(self, error: S3Error, mended: set[str]) -> bool:
        """Whether the request is worth another try, for it would now be put in another way. mended: of this request."""
        sent = error.sent
        if not isinstance(sent.ways, Ways) or sent.operation not in (*_WRITES, *_READS):
            return False
        if not error.unsupported and not error.wants_md5:
            return False
        if sent.ways != self.ways:  # another request found it out meanwhile
            return _once(f"{self.ways}", mended)
        better = self._better(error, sent)
        if better is None or (sent.operation, better) in self._hopeless:
            if self._before is not None and error.unsupported:
                self._hopeless.add((sent.operation, self.ways))
                self.ways, self._before = self._before, None
            return False
        self._before = self._before or self.ways
        self.ways = better
        mended.add(f"{better}")
        return True

    def worked(self, sent: Sent, endpoint: str) -> None:
        """A request succeeded."""
        if self._before is None or sent.ways != self.ways or sent.operation not in (*_WRITES, *_READS):
            return
        before, self._before = self._before, None
        if before.checksum != self.ways.checksum:
            log.warning("%s refuses %s; %s", endpoint, _CALLED[before.checksum], _INSTEAD[self.ways.checksum])
        elif before.whole != self.ways.whole:
            log.warning("%s refuses CRC32C checksums of whole objects; parts still carry theirs", endpoint)
        else:
            log.warning("%s names no checksums of objects; what is read is proved by its hashes alone", endpoint)

    def _better(self, error: S3Error, sent: Sent) -> Ways | None:
        """The ways to try after that refusal; None if they are not to blame."""
        ways, header = self.ways, error.header
        if sent.operation in _WRITES and error.wants_md5 and ways.checksum == "none":
            return replace(ways, checksum="md5")
        if not error.unsupported or not sent.checksum or (header and "checksum" not in header):
            return None
        if sent.operation in _READS:
            return replace(ways, reads=False)
        if sent.operation in ("create_multipart_upload", "complete_multipart_upload") and ways.whole:
            return replace(ways, whole=False)
        if self._auto and ways.checksum == "crc32c":
            return Ways("md5", whole=False, reads=False)
        return None

    def words(self) -> str:
        """In words, for who looks whether it is what the site demands."""
        site = self.site
        said = [_CALLED[self.ways.checksum] if self.ways.checksum != "none" else "no checksums"]
        if site.encryption:
            key = f" with {site.kms_key}" if site.kms_key else ""
            said.append(f"encryption {site.encryption}{key}{', bucket key' if site.bucket_key else ''}")
        if site.requester_pays:
            said.append("requester pays")
        return ", ".join(said)


_CALLED: Final = {
    "crc32c": "CRC32C checksums",
    "md5": "Content-MD5",
    "sha256": "SHA-256 checksums",
    "crc64nvme": "CRC64NVME checksums",
    "none": "requests without checksums",
}
_INSTEAD: Final = {
    "md5": "Content-MD5 is sent instead, which it checks but does not keep",
    "none": "nothing proves to it what it received",
    "crc32c": "CRC32C is sent instead",
}


def add_md5(params: dict[str, Any]) -> None:
    """Content-MD5 to a request that is about to be signed, in place of the client's own checksum."""
    body = params.get("body") or b""
    params["headers"]["Content-MD5"] = _base64(hashlib.md5(bytes(body), usedforsecurity=False).digest())
    params["context"]["checksum"] = {}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _once(name: str, mended: set[str]) -> bool:
    if name in mended:
        return False
    mended.add(name)
    return True

"""What an S3 server keeps of what S3 promises, found out by asking it; uses no code of the product.

python tests/s3facts.py     starts each server that the tests know, and prints the table of docs/s3-servers.md
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import crc32c
from botocore.config import Config
from botocore.session import get_session

from rigs.stores.ceph import ceph_server
from rigs.stores.smallservers import localbucket_server, nanio_server, rclone_server
from servers import S3Server, moto_server, seaweed_server

SERVERS: dict[str, Callable[[Path], AbstractContextManager[S3Server]]] = {
    "SeaweedFS 4.48": seaweed_server,
    "Ceph 16.2.15": ceph_server,
    "moto 5.2.5": lambda home: moto_server(),
    "LocalBucket 1.2.1": localbucket_server,
    "nanio 0.1.7": nanio_server,
    "rclone 1.75.2": rclone_server,
}
RACERS = 6
ROUNDS = 12  # of a race until more than one wins
_DATA = bytes(range(256)) * 40
_NAMES = ["q-/z", "q/A", "q/_", "q/a-/x", "q/a-b", "q/a.b", "q/a/b", "q/a/c/d", "q/a0", "q/a=b"]


def client(server: S3Server) -> Any:
    """A client that adds nothing of its own: one try, no checksums."""
    return get_session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            max_pool_connections=RACERS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def crc(data: bytes) -> str:
    return base64.b64encode(crc32c.crc32c(data).to_bytes(4)).decode()


def code(ask: Callable[[], object]) -> int:
    """The status of an answer; 0 if none came."""
    try:
        ask()
    except botocore.exceptions.ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    except botocore.exceptions.BotoCoreError:
        return 0
    return 200


@dataclass
class Facts:
    """A bucket of a server, and how each question is asked of it; each is answered in a few words."""

    s3: Any
    bucket: str = "facts"

    def put(self, key: str, data: bytes, **more: Any) -> Any:
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, **more)

    def get(self, key: str, **more: Any) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key, **more)["Body"].read())

    def read(self, key: str) -> int:
        """The status of a read. A server may close a connection behind an error of its own, and the next request on it
        is lost: then it is asked on another."""
        return code(lambda: self.get(key)) or code(lambda: self.get(key))

    def wins(self, ask: Callable[[int], object]) -> int:
        """How many of those who ask at once are told that they won."""
        barrier = threading.Barrier(RACERS)

        def one(number: int) -> bool:
            barrier.wait()
            return code(lambda: ask(number)) == 200

        with ThreadPoolExecutor(RACERS) as threads:
            return sum(threads.map(one, range(RACERS)))

    def race(self, rounds: int, begin: Callable[[int], Callable[[int], object]]) -> str:
        for number in range(rounds):
            won = self.wins(begin(number))
            if won != 1:
                return "several win" if won else "nobody wins"
        return "one wins"

    def conditional_create(self) -> str:
        self.put("c/there", b"first")
        status = code(lambda: self.put("c/there", b"second", IfNoneMatch="*"))
        if self.get("c/there") == b"second":
            return "ignored"
        return "kept" if status == 412 and code(lambda: self.put("c/new", b"", IfNoneMatch="*")) == 200 else str(status)

    def racing_creates(self) -> str:
        return self.race(3, lambda n: lambda i: self.put(f"c/race{n}", b"%d" % i, IfNoneMatch="*"))

    def create_where_a_folder_was(self) -> str:
        self.put("g/a/b", b"1")
        self.s3.delete_object(Bucket=self.bucket, Key="g/a/b")
        status = code(lambda: self.put("g/a", b"2", IfNoneMatch="*"))
        return "created" if status == 200 else f"{status}, and {self.read('g/a')} to a read"

    def create_beside_a_folder(self) -> str:
        self.put("f/a/b", b"1")
        status = code(lambda: self.put("f/a", b"2", IfNoneMatch="*"))
        return "created" if status == 200 else f"{status}, and {self.read('f/a')} to a read"

    def conditional_replace(self) -> str:
        stale = self.put("r/a", b"0")["ETag"]
        tag = self.put("r/a", b"1")["ETag"]
        code(lambda: self.put("r/a", b"2", IfMatch=stale))
        if self.get("r/a") == b"2":
            return "ignored"
        if code(lambda: self.put("r/a", b"3", IfMatch=tag)) == 200:
            return "kept"
        code(lambda: self.put("r/a", b"4", IfMatch=stale.strip('"')))
        bare = self.get("r/a") == b"1" and code(lambda: self.put("r/a", b"5", IfMatch=tag.strip('"'))) == 200
        return "kept for a tag without quotes" if bare else "refused"

    def racing_replaces(self) -> str:
        bare = self.conditional_replace().endswith("quotes")

        def begin(number: int) -> Callable[[int], object]:
            tag = self.put("r/race", b"%d" % number)["ETag"]
            return lambda i: self.put("r/race", b"%d %d" % (number, i), IfMatch=tag.strip('"') if bare else tag)

        return self.race(3, begin)

    def parts(self, key: str, data: bytes) -> dict[str, Any]:
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        part = self.s3.upload_part(Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=1, Body=data)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        return {"Bucket": self.bucket, "Key": key, "UploadId": upload, "MultipartUpload": parts}

    def conditional_completion(self) -> str:
        self.s3.complete_multipart_upload(**self.parts("m/a", b"first"))
        second = self.parts("m/a", b"second")
        status = code(lambda: self.s3.complete_multipart_upload(**second, IfNoneMatch="*"))
        return "ignored" if self.get("m/a") == b"second" else "kept" if status == 412 else str(status)

    def racing_completions(self) -> str:
        def begin(number: int) -> Callable[[int], object]:
            open_ones = [self.parts(f"m/race{number}", b"%d" % i * (i + 1)) for i in range(RACERS)]
            return lambda i: self.s3.complete_multipart_upload(**open_ones[i], IfNoneMatch="*")

        return self.race(ROUNDS, begin)

    def read_after_write(self) -> str:
        for number in range(8):
            self.put("w/a", b"%d" % number)
            self.put(f"w/{number}", b"")
            listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="w/")
            names = [each["Key"] for each in listed["Contents"]]
            if self.get("w/a") != b"%d" % number or f"w/{number}" not in names:
                return "no"
        return "yes"

    def listed(self, **more: Any) -> list[str]:
        answer = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="q", **more)
        return [each["Key"] for each in answer.get("Contents", [])]

    def order_of_listings(self) -> str:
        for name in _NAMES:
            self.put(name, b"")
        listed = self.listed()
        if sorted(listed) != _NAMES:
            return "keys are left out"
        return "by bytes" if listed == _NAMES else "another"

    def listings_in_pages(self) -> str:
        found, more = [], {}
        try:
            while True:
                answer = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="q", MaxKeys=3, **more)
                found += [each["Key"] for each in answer.get("Contents", [])]
                if not answer.get("IsTruncated"):
                    return "whole" if sorted(found) == _NAMES else "keys are left out"
                more = {"ContinuationToken": answer["NextContinuationToken"]}
        except botocore.exceptions.ClientError as error:
            return str(error.response["ResponseMetadata"]["HTTPStatusCode"])

    def start_after(self) -> str:
        for after in [*_NAMES, "q/a", "q/a/", "q/", "q/aa"]:
            wanted = {name for name in _NAMES if name > after}
            found = set(self.listed(StartAfter=after))
            if not wanted <= found:
                return "leaves keys out"
        return "right"

    def ranges(self) -> str:
        self.put("x", _DATA)
        right = self.get("x", Range="bytes=100-199") == _DATA[100:200]
        with contextlib.suppress(botocore.exceptions.ClientError):
            return "right" if right and self.get("x", Range="bytes=10000-99999") == _DATA[10000:] else "wrong"
        return "refused where they end beyond the object"

    def last_bytes(self) -> str:
        with contextlib.suppress(botocore.exceptions.ClientError):
            data = self.get("x", Range="bytes=-100")
            return "right" if data == _DATA[-100:] else "the first ones" if data == _DATA[:100] else "others"
        return "refused"

    def wrong_crc32c(self) -> str:
        status = code(lambda: self.put("k", b"evil", ChecksumCRC32C=crc(b"good")))
        return "taken" if status == 200 else "refused"

    def told_crc32c(self) -> str:
        told = self.put("k", b"good", ChecksumCRC32C=crc(b"good")).get("ChecksumCRC32C")
        head = self.s3.head_object(Bucket=self.bucket, Key="k", ChecksumMode="ENABLED").get("ChecksumCRC32C")
        return "yes" if told == head == crc(b"good") else "to readers" if head else "no"

    def wrong_md5(self) -> str:
        return "taken" if code(lambda: self.put("k", b"evil", ContentMD5=md5(b"good"))) == 200 else "refused"

    def wrong_part(self) -> str:
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key="p")["UploadId"]
        where = {"Bucket": self.bucket, "Key": "p", "UploadId": upload, "PartNumber": 1, "Body": b"evil"}
        by_crc = code(lambda: self.s3.upload_part(**where, ChecksumCRC32C=crc(b"good")))
        by_md5 = code(lambda: self.s3.upload_part(**where, ContentMD5=md5(b"good")))
        self.s3.abort_multipart_upload(Bucket=self.bucket, Key="p", UploadId=upload)
        refused = [name for name, status in (("CRC32C", by_crc), ("MD5", by_md5)) if status != 200]
        return f"refused by {' and '.join(refused)}" if refused else "taken"

    def deletes_many(self) -> str:
        self.put("d/0", b"")
        names = {"Objects": [{"Key": "d/0"}, {"Key": "d/absent"}], "Quiet": True}
        status = code(lambda: self.s3.delete_objects(Bucket=self.bucket, Delete=names))
        return "yes" if status == 200 and code(lambda: self.get("d/0")) == 404 else str(status)

    def lists_uploads(self) -> str:
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key="u/a")["UploadId"]
        try:
            answer = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix="u/")
        except botocore.exceptions.ClientError as error:
            return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
        finally:
            self.s3.abort_multipart_upload(Bucket=self.bucket, Key="u/a", UploadId=upload)
        (found,) = answer["Uploads"]
        return "yes" if abs(found["Initiated"] - datetime.now(UTC)) < timedelta(minutes=5) else "with a wrong time"

    def versions(self) -> str:
        bucket = "facts-versions"
        self.s3.create_bucket(Bucket=bucket)
        on = {"Status": "Enabled"}
        if code(lambda: self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=on)) != 200:
            return "none"
        for data in (b"1", b"2"):
            self.s3.put_object(Bucket=bucket, Key="a", Body=data)
        if len(self.s3.list_object_versions(Bucket=bucket).get("Versions", [])) != 2:
            return "none"
        over = code(lambda: self.s3.put_object(Bucket=bucket, Key="a", Body=b"3", IfNoneMatch="*"))
        return "kept" if over == 412 else "kept; conditional creates are ignored there"

    def object_lock(self) -> str:
        until = datetime.now(UTC) + timedelta(days=1)
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until, "ObjectLockLegalHoldStatus": "ON"}
        where = {"Bucket": "facts-locked", "Key": "a"}
        if code(lambda: self.s3.create_bucket(Bucket=where["Bucket"], ObjectLockEnabledForBucket=True)) != 200:
            return "none"
        if code(lambda: self.s3.put_object(**where, Body=b"1", ContentMD5=md5(b"1"), **lock)) != 200:
            return "none"
        version = self.s3.head_object(**where).get("VersionId")
        if version is None or code(lambda: self.s3.delete_object(**where, VersionId=version)) == 200:
            return "none"
        copy = {"Bucket": where["Bucket"], "Key": "b"}
        if code(lambda: self.s3.copy_object(**copy, CopySource="facts-locked/a", **lock)) != 200:
            return "kept; no copies into it"
        held = self.s3.head_object(**copy)
        kept = held.get("ObjectLockLegalHoldStatus") == "ON" and held.get("ObjectLockRetainUntilDate")
        return "kept" if kept else "kept, but not by CopyObject"


QUESTIONS: dict[str, Callable[[Facts], str]] = {
    "conditional create (If-None-Match)": Facts.conditional_create,
    "six racing for one key": Facts.racing_creates,
    "a key below which others lie": Facts.create_beside_a_folder,
    "a key below which others lay": Facts.create_where_a_folder_was,
    "conditional replace (If-Match)": Facts.conditional_replace,
    "six racing to replace": Facts.racing_replaces,
    "conditional completion of an upload": Facts.conditional_completion,
    "six racing to complete": Facts.racing_completions,
    "read and list after write": Facts.read_after_write,
    "order of listings": Facts.order_of_listings,
    "listings in pages": Facts.listings_in_pages,
    "StartAfter": Facts.start_after,
    "ranges": Facts.ranges,
    "the last bytes": Facts.last_bytes,
    "an object with a wrong CRC32C": Facts.wrong_crc32c,
    "CRC32C is confirmed": Facts.told_crc32c,
    "an object with a wrong Content-MD5": Facts.wrong_md5,
    "a part with a wrong checksum": Facts.wrong_part,
    "deleting many at once": Facts.deletes_many,
    "listing open uploads": Facts.lists_uploads,
    "versions": Facts.versions,
    "object lock": Facts.object_lock,
}


def facts(server: S3Server) -> Iterator[tuple[str, str]]:
    """Question and answer, of a server that holds none of the buckets used here."""
    asked = Facts(client(server))
    asked.s3.create_bucket(Bucket=asked.bucket)
    try:
        for question, ask in QUESTIONS.items():
            yield question, ask(asked)
    finally:
        asked.s3.close()


def main() -> None:
    columns = {}
    for name, start in SERVERS.items():
        with tempfile.TemporaryDirectory() as home, start(Path(home)) as server:
            columns[name] = dict(facts(server))
    print(f"| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for question in QUESTIONS:
        print(f"| {question} | {' | '.join(column[question] for column in columns.values())} |")


if __name__ == "__main__":
    main()

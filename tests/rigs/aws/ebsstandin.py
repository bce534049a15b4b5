"""A strict stand-in for the EBS direct APIs and for what EC2 says of snapshots; loopback only, for tests and benches.

It enforces what AWS documents: sizes, checksums and their aggregate, inheritance from parents, pending before
completed, idempotency tokens, quotas, block and page tokens, timeouts. What a correct client never does is refused and
noted in `breaches`, which tests demand to be empty. Late visibility, throttling, errors, cut connections and lies come
on demand. EC2's DescribeSnapshots, DeleteSnapshot and CreateTags are answered from the same state, so the two can't
disagree; every other action of EC2 goes to `forward_to` (moto) if there is one.

    python -m rigs.aws.ebsstandin [--puts N] [--complete-s S] [--forget-data]

prints its URL, and serves until its stdin closes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from rigs.aws.ebsec2 import ACCOUNT, Ec2Half
from rigs.aws.ebsparts import BLOCK, Bucket, Faults, Refusal, Snapshot, cut, invalid, signed, throttled

SETTLED_TURNS = 20  # of the loop without a request, each of which takes what lies in the sockets
SETTLE_S = 60.0


class Standin(Ec2Half):
    """The account's snapshots. puts_s: quota of PutSnapshotBlock, of the account and of a snapshot; starts_s: of
    StartSnapshot and CompleteSnapshot, each. complete_s: from
    CompleteSnapshot to `completed`. unseen_s: from StartSnapshot until others know the snapshot. keep_data: False where
    only the bytes' checksums matter."""

    def __init__(
        self,
        *,
        puts_s: float = 1000.0,
        complete_s: float = 0.0,
        unseen_s: float = 0.0,
        keep_data: bool = True,
        forward_to: str | None = None,
        parents_may_be_smaller: bool = True,
        starts_s: float = 10.0,
    ) -> None:
        self.complete_s, self.unseen_s, self.keep_data = complete_s, unseen_s, keep_data
        self.forward_to, self.parents_may_be_smaller = forward_to, parents_may_be_smaller
        self.pending_limit = 100
        self.faults = Faults()
        self.snapshots: dict[str, Snapshot] = {}
        self.in_use: dict[str, str] = {}
        self.locks: dict[str, str] = {}
        self.protected: dict[str, Refusal] = {}
        self.retains = False
        self.binned: dict[str, Snapshot] = {}
        self.breaches: list[str] = []
        self.actions: Counter[str] = Counter()  # that were carried out, as IAM names them
        self.answers: Counter[str] = Counter()  # code, or "ok"
        self.put_times: list[float] = []  # of those that were taken
        self._rates = {"PutSnapshotBlock": puts_s, "StartSnapshot": starts_s, "CompleteSnapshot": starts_s}
        self._buckets: dict[str, Bucket] = {}
        self._snapshot_buckets: dict[str, Bucket] = defaultdict(lambda: Bucket(puts_s, max(2.0, puts_s / 5)))
        self._tokens: dict[str, tuple[str, dict[str, Any]]] = {}  # client token → what it said, the answer
        self._writing: set[tuple[str, str]] = set()
        self._in_work = 0  # requests that came and are not yet answered
        self._loop: asyncio.AbstractEventLoop | None = None  # that serves
        self._deleted: dict[str, Snapshot] = {}
        self.put_s = 0.0  # how long a put takes
        self._secret = secrets.token_bytes(16)
        self._data = tempfile.TemporaryFile()  # noqa: SIM115 (for as long as this lives)
        self._places: dict[bytes, int] = {}
        self._lock = threading.Lock()

    # serving

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2 * BLOCK, middlewares=[self._counted()])
        self._loop = asyncio.get_running_loop()
        app.router.add_post("/snapshots", self._ebs("StartSnapshot", self._start))
        app.router.add_put("/snapshots/{id}/blocks/{index}", self._ebs("PutSnapshotBlock", self._put))
        app.router.add_post("/snapshots/completion/{id}", self._ebs("CompleteSnapshot", self._complete))
        app.router.add_get("/snapshots/{id}/blocks/{index}", self._ebs("GetSnapshotBlock", self._get))
        app.router.add_get("/snapshots/{id}/blocks", self._ebs("ListSnapshotBlocks", self._list))
        app.router.add_get("/snapshots/{id}/changedblocks", self._ebs("ListChangedBlocks", self._changed))
        app.router.add_post("/", self._ec2)
        return app

    def _counted(self) -> Any:
        @web.middleware
        async def counted(request: web.Request, handler: Any) -> Any:
            self._in_work += 1
            try:
                return await handler(request)
            finally:
                self._in_work -= 1

        return counted

    def settle(self) -> None:
        """Return once all is answered that was sent. What a client that ended or died left on its way is then in its
        own account, and not in that of the next one."""

        async def idle() -> None:
            quiet = 0
            while quiet < SETTLED_TURNS:
                quiet = 0 if self._in_work else quiet + 1
                await asyncio.sleep(0 if quiet else 0.01)

        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(idle(), SETTLE_S), self._loop).result()

    def _breach(self, what: str) -> None:
        self.breaches.append(what)

    def _fault(self, action: str) -> str:
        """What is to go wrong with this request: "", or "lost"; a Refusal is raised."""
        wanted = self.faults.refuse(action)
        if wanted:
            raise wanted
        draw, faults = self.faults.rng.random(), self.faults
        for chance, name in (
            (faults.throttle, "throttle"),
            (faults.server_error, "error"),
            (faults.cut, "cut"),
            (faults.lost, "lost"),
        ):
            if draw < chance:
                if name == "throttle":
                    raise throttled(action)
                if name == "error":
                    raise Refusal(self.faults.rng.choice([500, 503]), "InternalServerException", "an internal error")
                return name
            draw -= chance
        return ""

    def _quota(self, action: str) -> None:
        rate = self._rates.get(action, 1000.0)
        if not self._buckets.setdefault(action, Bucket(rate, max(2.0, rate / 5))).take():
            raise throttled(action)

    def _ebs(self, action: str, work: Callable[..., web.Response]) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            try:
                signed(request, "ebs")
                fault = self._fault(action)
                if fault == "cut":
                    return cut(request)
                self._quota(action)
                if action == "PutSnapshotBlock":
                    await self._written(request)
                answer = work(request, body)
                self.actions[f"ebs:{action}"] += 1
                self.answers["ok"] += 1
                return cut(request) if fault == "lost" else answer
            except Refusal as error:
                self.answers[error.code] += 1
                said = {"Message": error.message, **({"Reason": error.reason} if error.reason else {})}
                headers = {"x-amzn-ErrorType": error.code}
                return web.json_response(said, status=error.status, headers=headers)

        return handler

    async def _written(self, request: web.Request) -> None:
        """A put takes a while; a second one of the same block meanwhile is refused."""
        place = (request.match_info["id"], request.match_info["index"])
        if place in self._writing:
            raise invalid("CONFLICTING_BLOCK_UPDATE", "the block is being written")
        self._writing.add(place)
        try:
            await asyncio.sleep(self.put_s)
        finally:
            self._writing.discard(place)

    # EBS direct

    def _start(self, request: web.Request, body: bytes) -> web.Response:
        asked = json.loads(body)
        said = json.dumps({key: value for key, value in asked.items() if key != "ClientToken"}, sort_keys=True)
        token = asked.get("ClientToken", secrets.token_hex(8))
        if not 1 <= len(token) <= 64:
            self._breach("a client token of more than 64 characters")
            raise invalid("INVALID_PARAMETER_VALUE", "the client token is too long")
        with self._lock:
            if token in self._tokens:
                before, answer = self._tokens[token]
                if before != said:
                    self._breach("a client token was used again with other parameters")
                    raise Refusal(409, "ConflictException", "the client token was used with other parameters")
                return web.json_response(answer, status=201)
            made = self._made(asked)
            self.snapshots[made.id] = made
            answer = {
                "SnapshotId": made.id,
                "OwnerId": ACCOUNT,
                "Status": "pending",
                "VolumeSize": made.gib,
                "BlockSize": BLOCK,
                "StartTime": made.started.timestamp(),
                "Tags": asked.get("Tags", []),
                **({"ParentSnapshotId": made.parent} if made.parent else {}),
            }
            self._tokens[token] = (said, answer)
        if asked.get("Tags"):
            self.actions["ec2:CreateTags"] += 1  # IAM wants it for tags that are given with the start
        if made.encrypted:
            self.actions["kms:GenerateDataKeyWithoutPlaintext"] += 1
        return web.json_response(answer, status=201)

    def _made(self, asked: dict[str, Any]) -> Snapshot:
        size, parent = asked.get("VolumeSize"), asked.get("ParentSnapshotId", "")
        if not isinstance(size, int) or not 1 <= size <= 65536:
            self._breach(f"a volume of {size} GiB")
            raise invalid("INVALID_VOLUME_SIZE", "the volume size is out of range")
        if not 10 <= asked.get("Timeout", 60) <= 4320:
            self._breach("a timeout out of range")
            raise invalid("INVALID_PARAMETER_VALUE", "the timeout is out of range")
        tags = {tag["Key"]: tag["Value"] for tag in asked.get("Tags", [])}
        bad = [key for key, value in tags.items() if not 1 <= len(key) <= 127 or len(value) > 255 or key[:4] == "aws:"]
        if bad or len(tags) > 50 or len(tags) != len(asked.get("Tags", [])):
            self._breach(f"tags that EC2 does not take: {bad}")
            raise invalid("INVALID_TAG", "a tag is not valid")
        encrypted, key = bool(asked.get("Encrypted")), asked.get("KmsKeyArn", "")
        if parent and ("Encrypted" in asked or key):
            self._breach("a parent and an encryption")
            raise invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId and Encrypted exclude each other")
        if key and not encrypted:
            self._breach("a key and no encryption")
            raise invalid("INVALID_CUSTOMER_KEY", "KmsKeyArn needs Encrypted")
        if parent:
            above = self.snapshots.get(parent)
            if above is None:
                raise Refusal(404, "ResourceNotFoundException", "no such parent", "SNAPSHOT_NOT_FOUND")
            if self.state(above) != "completed":
                self._breach("a parent that is not completed")
                raise invalid("INVALID_DEPENDENCY_REQUEST", "the parent is not completed")
            if above.gib > size or (above.gib < size and not self.parents_may_be_smaller):
                raise invalid("INVALID_VOLUME_SIZE", "the volume does not fit the parent's")
            encrypted, key = above.encrypted, above.kms_key
        if sum(self.state(each) == "pending" for each in self.snapshots.values()) >= self.pending_limit:
            raise Refusal(400, "ConcurrentLimitExceededException", "too many pending snapshots")
        now = time.monotonic()
        return Snapshot(
            f"snap-{secrets.token_hex(8)}",
            size,
            parent,
            tags,
            asked.get("Description", ""),
            encrypted,
            key,
            60.0 * asked.get("Timeout", 60),
            datetime.now(UTC),
            now + self.unseen_s,
            now,
        )

    def state(self, snapshot: Snapshot) -> str:
        now = time.monotonic()
        if snapshot.recovering:
            return "recovering"
        if snapshot.error or (snapshot.sealed is None and now - snapshot.touched > snapshot.timeout_s):
            return "error"
        return "completed" if snapshot.sealed is not None and now >= snapshot.sealed + self.complete_s else "pending"

    def _writable(self, request: web.Request) -> Snapshot:
        snapshot = self.snapshots.get(request.match_info["id"])
        if snapshot is None or time.monotonic() < snapshot.seen_from:
            raise Refusal(404, "ResourceNotFoundException", "the snapshot does not exist", "SNAPSHOT_NOT_FOUND")
        if snapshot.sealed is not None or self.state(snapshot) != "pending":
            raise invalid("INVALID_SNAPSHOT_ID", "the snapshot is not pending")
        return snapshot

    def _put(self, request: web.Request, body: bytes) -> web.Response:
        snapshot, index = self._writable(request), int(request.match_info["index"])
        if not self._snapshot_buckets[snapshot.id].take():
            raise throttled("PutSnapshotBlock")
        if not 0 <= index < snapshot.gib * 2048:
            self._breach(f"block {index} of a volume of {snapshot.gib} GiB")
            raise invalid("INVALID_BLOCK", "the block is beyond the volume")
        if len(body) != BLOCK or request.headers.get("x-amz-Data-Length") != str(BLOCK):
            self._breach(f"a block of {len(body)} bytes")
            raise invalid("INVALID_BLOCK", "a block has 524288 bytes")
        if request.headers.get("x-amz-Checksum-Algorithm") != "SHA256":
            self._breach("no checksum algorithm")
            raise invalid("INVALID_PARAMETER_VALUE", "the checksum algorithm must be SHA256")
        digest = hashlib.sha256(body).digest()
        said = request.headers.get("x-amz-Checksum", "")
        if said != base64.b64encode(digest).decode():
            self._breach(f"block {index} has another checksum than was said")
            raise invalid("INVALID_BLOCK", "the checksum does not match")
        body = self.faults.keeps(index, body)
        digest = hashlib.sha256(body).digest()
        with self._lock:
            if self.keep_data and digest not in self._places:
                self._data.seek(0, 2)
                self._places[digest] = self._data.tell()
                self._data.write(body)
            snapshot.blocks[index] = digest
            snapshot.puts += 1
        snapshot.touched = time.monotonic()
        self.put_times.append(snapshot.touched)
        said = self.faults.echo(index, said)
        return web.Response(status=201, headers={"x-amz-Checksum": said, "x-amz-Checksum-Algorithm": "SHA256"})

    def _complete(self, request: web.Request, body: bytes) -> web.Response:
        snapshot, header = self._writable(request), request.headers
        if int(header["x-amz-ChangedBlocksCount"]) != len(snapshot.blocks):
            self._breach(f"{header['x-amz-ChangedBlocksCount']} blocks said and {len(snapshot.blocks)} written")
            raise invalid("INVALID_PARAMETER_VALUE", "another number of blocks was written")
        names = ("x-amz-Checksum", "x-amz-Checksum-Algorithm", "x-amz-Checksum-Aggregation-Method")
        said = [header.get(name) for name in names]
        if any(said):
            rows = b"".join(snapshot.blocks[index] for index in sorted(snapshot.blocks))
            right = base64.b64encode(hashlib.sha256(rows).digest()).decode()
            if said != [right, "SHA256", "LINEAR"]:
                self._breach("the aggregate checksum does not match")
                raise invalid("INVALID_PARAMETER_VALUE", "the aggregate checksum does not match")
        snapshot.sealed = snapshot.touched = time.monotonic()
        return web.json_response({"Status": "pending"}, status=202)

    # reading

    def _readable(self, snapshot_id: str) -> Snapshot:
        snapshot = self.snapshots.get(snapshot_id)
        if snapshot is None:
            raise Refusal(404, "ResourceNotFoundException", "the snapshot does not exist", "SNAPSHOT_NOT_FOUND")
        if self.state(snapshot) != "completed":
            self._breach("a snapshot was read before it was completed")
            raise invalid("INVALID_SNAPSHOT_ID", "the snapshot is not completed")
        return snapshot

    def content(self, snapshot: Snapshot) -> dict[int, bytes]:
        """Index → SHA-256 of every block that it or one above it wrote. A parent that was deleted is still there: EBS
        counts references."""
        above = self.content(self._ever(snapshot.parent)) if snapshot.parent else {}
        return {**above, **snapshot.blocks}

    def _ever(self, snapshot_id: str) -> Snapshot:
        return self.snapshots.get(snapshot_id) or self._deleted[snapshot_id]

    def block(self, digest: bytes) -> bytes:
        """The bytes of a block, by its SHA-256."""
        with self._lock:
            self._data.seek(self._places[digest])
            return self._data.read(BLOCK)

    def image(self, snapshot_id: str) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) of what is not zeros by default; without the API."""
        for index, digest in sorted(self.content(self.snapshots[snapshot_id]).items()):
            yield index, self.block(digest)

    def _token(self, *parts: object) -> str:
        """Opaque, bound to what it is for, valid for a while."""
        said = json.dumps([*parts, int(time.time()) + 7 * 86400]).encode()
        return base64.b64encode(hmac.digest(self._secret, said, "sha256")[:12] + said).decode()

    def _opened(self, token: str, reason: str, *parts: object) -> list[Any]:
        """What a token says after `parts`; a Refusal unless it was made for them and is still valid."""
        raw = base64.b64decode(token)
        said = json.loads(raw[12:] or b"[]") if hmac.digest(self._secret, raw[12:], "sha256")[:12] == raw[:12] else []
        if said[: len(parts)] != list(parts) or said[-1] < time.time():
            self._breach(f"a token that is not valid: {reason}")
            raise invalid(reason, "the token is not valid")
        return list(said[len(parts) : -1])

    def _get(self, request: web.Request, body: bytes) -> web.Response:
        snapshot, index = self._readable(request.match_info["id"]), int(request.match_info["index"])
        self._opened(request.query["blockToken"], "INVALID_BLOCK_TOKEN", snapshot.id, index)
        digest = self.content(snapshot)[index]
        headers = {
            "x-amz-Checksum": base64.b64encode(digest).decode(),
            "x-amz-Checksum-Algorithm": "SHA256",
            "x-amz-Data-Length": str(BLOCK),
        }
        return web.Response(body=self.block(digest), headers=headers)

    def _page(self, request: web.Request, kind: str, rows: dict[int, dict[str, Any]], gib: int) -> web.Response:
        most = int(request.query.get("maxResults", 1000))
        if not 100 <= most <= 10000:
            self._breach(f"maxResults={most}")
            raise invalid("INVALID_PARAMETER_VALUE", "MaxResults is out of range")
        start = int(request.query.get("startingBlockIndex", 0))
        if "pageToken" in request.query:
            (start,) = self._opened(request.query["pageToken"], "INVALID_PAGE_TOKEN", kind, request.match_info["id"])
        chosen = [index for index in sorted(rows) if index >= start]
        answer: dict[str, Any] = {
            kind: [{"BlockIndex": index, **rows[index]} for index in chosen[:most]],
            "ExpiryTime": time.time() + 7 * 86400,
            "VolumeSize": gib,
            "BlockSize": BLOCK,
        }
        if len(chosen) > most:
            answer["NextToken"] = self._token(kind, request.match_info["id"], chosen[most])
        return web.json_response(answer)

    def _list(self, request: web.Request, body: bytes) -> web.Response:
        snapshot = self._readable(request.match_info["id"])
        rows = {index: {"BlockToken": self._token(snapshot.id, index)} for index in self.content(snapshot)}
        return self._page(request, "Blocks", rows, snapshot.gib)

    def _changed(self, request: web.Request, body: bytes) -> web.Response:
        first = self._readable(request.query["firstSnapshotId"])
        second = self._readable(request.match_info["id"])
        lineage, each = {second.id}, second
        while each.parent:
            each = self._ever(each.parent)
            lineage.add(each.id)
        if first.id not in lineage:
            raise invalid("UNRELATED_SNAPSHOTS", "the snapshots have no common line")
        old, new = self.content(first), self.content(second)
        rows = {}
        for index in old.keys() | new.keys():
            if old.get(index) != new.get(index):
                tokens = (("FirstBlockToken", first, old), ("SecondBlockToken", second, new))
                rows[index] = {name: self._token(of.id, index) for name, of, has in tokens if index in has}
        return self._page(request, "ChangedBlocks", rows, second.gib)


@contextlib.contextmanager
def serving(standin: Standin) -> Iterator[str]:
    """Serve in a thread of this process; its URL."""
    loop, ready, url = asyncio.new_event_loop(), threading.Event(), ""

    async def begin() -> web.AppRunner:
        nonlocal url
        runner = web.AppRunner(standin.app(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def serve() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(begin())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, name="ebs stand-in", daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


def environment(url: str) -> dict[str, str]:
    """What points AWS clients at the stand-in, for EC2 and EBS alone."""
    return {
        "AWS_ENDPOINT_URL_EBS": url,
        "AWS_ENDPOINT_URL_EC2": url,
        "AWS_ACCESS_KEY_ID": "ebs-access",
        "AWS_SECRET_ACCESS_KEY": "ebs-secret-77aa",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--puts", type=float, default=1000.0)
    options.add_argument("--complete-s", type=float, default=0.0)
    options.add_argument("--forget-data", action="store_true")
    given = options.parse_args()
    standin = Standin(puts_s=given.puts, complete_s=given.complete_s, keep_data=not given.forget_data)
    with serving(standin) as url:
        print(url, flush=True)
        sys.stdin.read()
    times = standin.put_times
    print(
        json.dumps(
            {
                "puts": len(times),
                "span_s": times[-1] - times[0] if times else 0.0,
                "answers": standin.answers,
                "breaches": standin.breaches,
            }
        )
    )


if __name__ == "__main__":
    main()

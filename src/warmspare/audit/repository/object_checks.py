"""Objects held against what is stated of them: there, of that length, with that checksum and that content.

Owns the order of the checks and the wording of what they find. A download that does not match is made once more, for
ranges carry no checksum of the store's and bytes can change on the way.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import crc32c

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.scratch import Scratch
from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import pack
from warmspare.format.packlist import PackRef
from warmspare.format.restore_point import ObjectRef
from warmspare.model.ids import PackId, VmKey
from warmspare.state.page_file import PageFile
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.threads import beside, in_thread

FETCH_BYTES = 4 << 20
AHEAD = 4  # ranges under way
LOOKS_AT_ONCE = 8
REMEDY = "put it back from a copy or the bucket's versions; without it no replica can be made that needs it"
REMEDY_PACK = (
    "put it back from a copy or the bucket's versions; or run `warmspare audit repository --repair` and a sync, which "
    "make the newest restore point whole again"
)


@dataclass(frozen=True, slots=True)
class Stated:
    """What a record or manifest says of an object. pack: where it is one."""

    key: str
    bytes: int
    sha256: str
    crc32c: int
    pack: PackId | None = None

    @classmethod
    def of(cls, ref: ObjectRef) -> Stated:
        return cls(ref.key, ref.bytes, ref.sha256, ref.crc32c)

    @classmethod
    def of_pack(cls, vm: VmKey, ref: PackRef) -> Stated:
        key = layout.pack_key(vm, ref.id)
        return cls(key, ref.bytes, ref.sha256.hex(), ref.crc32c, ref.id)


@dataclass(frozen=True, slots=True)
class FindingPlace:
    """Where a finding belongs: the label of a restore point, and a disk's ID or ""."""

    point: str
    disk: str = ""


class Fetched:
    """Bytes of an object in a scratch file. sound: whether they are what was stated."""

    def __init__(self, file: PageFile, size: int, where: str, *, sound: bool) -> None:
        self.file, self.bytes, self.where, self.sound = file, size, where, sound

    def read_at(self, offset: int, length: int) -> builtins.bytes:
        return self.file.read_there(offset, length)


Identify = Callable[[Fetched], str]  # what a whole object with other bytes is instead, "" if it is none


class ObjectChecks:
    """Judges objects of one repository. quiet: findings are noted elsewhere already, and only the answer counts.

    looked, unsummed: objects whose head was seen, and those of which the store keeps no checksum. fetched_bytes: read.
    """

    def __init__(self, store: Store, scratch: Scratch, findings: Findings) -> None:
        self.store, self.scratch, self.findings = store, scratch, findings
        self.looked = self.unsummed = self.fetched_bytes = 0

    def where(self, key: str) -> str:
        return f"{self.store.uri.rstrip('/')}/{key}"

    async def look(self, stated: Stated, place: FindingPlace, *, quiet: bool = False) -> bool:
        """Whether the object is there as the store itself tells: length, and CRC32C where it keeps one; of a pack
        without one the header, which says where it belongs."""
        info = await self.store.head(stated.key)
        if not quiet:
            self.looked += 1
        kind, expected, actual = FindingKind.OBJECT_MISSING, f"{stated.bytes} bytes", "nothing"
        if info is not None:
            kind, actual = FindingKind.OBJECT_LENGTH, f"{info.bytes} bytes"
            if info.bytes == stated.bytes:
                if info.crc32c == stated.crc32c:
                    return True
                if info.crc32c is None:
                    self.unsummed += 0 if quiet else 1
                    return stated.pack is None or await self._headed(stated, place, quiet=quiet)
                kind = FindingKind.OBJECT_CHECKSUM
                expected, actual = f"CRC32C {stated.crc32c:08x}", f"CRC32C {info.crc32c:08x}"
        if not quiet:
            self._add(kind, stated, place, expected, actual)
        return False

    def _add(
        self, kind: FindingKind, stated: Stated, place: FindingPlace, expected: str, actual: str, meaning: str = ""
    ) -> None:
        self.findings.add(
            kind,
            point=place.point,
            disk=place.disk,
            key=stated.key,
            expected=expected,
            actual=actual,
            meaning=meaning,
            remedy=REMEDY_PACK if stated.pack else REMEDY,
        )

    async def _headed(self, stated: Stated, place: FindingPlace, *, quiet: bool) -> bool:
        try:
            head = await self.store.get_range(stated.key, 0, min(pack.HEADER.size, stated.bytes))
        except StoreError as error:
            if error.retryable:
                raise
            head = b""
        self.fetched_bytes += len(head)
        other, wrong = stranger(stated, head)
        if wrong and not quiet:
            kind = FindingKind.OBJECT_REPLAYED if other else FindingKind.OBJECT_MALFORMED
            self._add(kind, stated, place, f"the header of {_called(stated)}", wrong)
        return not wrong

    async def look_all(self, many: Sequence[Stated], place: FindingPlace, *, quiet: bool = False) -> list[bool]:
        """`look` at several, a few at once; the answers in their order."""
        out = [False] * len(many)
        todo = iter(enumerate(many))

        async def work() -> None:
            for index, one in todo:
                out[index] = await self.look(one, place, quiet=quiet)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(LOOKS_AT_ONCE, len(many))):
                tasks.create_task(work(), name="look")
        return out

    async def fetch(
        self, stated: Stated, place: FindingPlace, identify: Identify, *, quiet: bool = False, partly: bool = False
    ) -> Fetched | None:
        """The object in a scratch file, which is the caller's to drop, or None where it is not as stated. partly: then
        what there is of it, with `sound` false."""
        file = self.scratch.file()
        keep = False
        try:
            found = await self._download(stated, file)
            if found != stated.sha256:
                found = await self._download(stated, file)
            copy = Fetched(file, stated.bytes, self.where(stated.key), sound=found == stated.sha256)
            if not copy.sound and found is not None and not quiet:
                other = await in_thread(identify, copy)
                kind = FindingKind.OBJECT_REPLAYED if other else FindingKind.OBJECT_CONTENT
                self._add(kind, stated, place, f"SHA-256 {stated.sha256}", other or f"SHA-256 {found}")
            if copy.sound or partly:
                keep = True
                return copy
            return None
        finally:
            if not keep:
                self.scratch.drop(file)

    async def _download(self, stated: Stated, file: PageFile) -> str | None:
        """Hex SHA-256 of as many bytes as are stated; None if there are fewer. What can be had is in the file."""
        file.empty()
        summed, crc = hashlib.sha256(), 0

        def take(data: bytes, at: int, crc: int) -> int:
            summed.update(data)
            file.write(at, data)
            return int(crc32c.crc32c(data, crc))

        async with asyncio.TaskGroup() as tasks:
            under_way: deque[tuple[int, asyncio.Task[bytes | None]]] = deque()
            following = at = 0
            whole = True
            while whole and (following < stated.bytes or under_way):
                while following < stated.bytes and len(under_way) < AHEAD:
                    size = min(FETCH_BYTES, stated.bytes - following)
                    under_way.append((following, tasks.create_task(self._range(stated.key, following, size))))
                    following += size
                at, task = under_way.popleft()
                data = await task
                if data is None:
                    whole = False
                else:
                    crc = await beside(len(data), take, data, at, crc)
            for _, task in under_way:
                task.cancel()
        if not whole:
            await self._remainder(stated, file, at)
            return None
        return summed.hexdigest() if crc == stated.crc32c else summed.hexdigest() + f" and CRC32C {crc:08x}"

    async def _range(self, key: str, offset: int, size: int) -> bytes | None:
        try:
            data = await self.store.get_range(key, offset, size)
        except NotFoundError:
            return None
        except StoreError as error:
            if error.retryable:
                raise
            return None
        self.fetched_bytes += len(data)
        return data

    async def _remainder(self, stated: Stated, file: PageFile, at: int) -> None:
        """The last bytes of an object that is shorter than it should be."""
        info = await self.store.head(stated.key)
        if info is not None and at < info.bytes:
            data = await self._range(stated.key, at, min(info.bytes, stated.bytes) - at)
            if data:
                file.write(at, data)


def _called(stated: Stated) -> str:
    assert stated.pack
    return _named(stated.pack)


def _named(pack: PackId) -> str:
    return f"pack {pack.number} of run {pack.run}"


def stranger(stated: Stated, head: bytes) -> tuple[bool, str]:
    """Whether a pack's first bytes are those of another pack, and what is wrong with them ("" if they are its own)."""
    assert stated.pack
    try:
        found = pack.PackHeader.decode(head, "")
    except FormatError as error:
        return False, error.what
    if found.id == stated.pack:
        return False, ""
    return True, _named(found.id)


def identify_pack(stated: Stated) -> Identify:
    """For `fetch`: which other pack it is."""

    def identify(copy: Fetched) -> str:
        other, what = stranger(stated, copy.read_at(0, pack.HEADER.size))
        return what if other else ""

    return identify

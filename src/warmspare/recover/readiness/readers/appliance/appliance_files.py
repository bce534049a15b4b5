"""Files of volumes as the throw-away machine reads them, with three answers; owns which volume is mounted where."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import OUTPUT_BYTES, Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Beyond, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES
from warmspare.recover.readiness.readers.appliance import agent
from warmspare.recover.readiness.readers.appliance.appliance_machine import ApplianceLimits, ApplianceMachine, Said
from warmspare.recover.readiness.readers.appliance.parts import ApplianceParts

BLOCK_BYTES = 1 << 20
MAX_PATH = 4096
MAX_VOLUMES = 64
# GRUB's names of what is on disks, and of what is put together of them.
_DISK = re.compile(r"loop([0-9]{1,4})(?:,(?:gpt|msdos)([0-9]{1,4}))?")
_MAPPED = re.compile(r"(lvm|md)/([\w.+-]{1,255})", re.ASCII)
_TYPES = {"ext2": "ext4", "ext3": "ext4", "ext4": "ext4", "xfs": "xfs", "btrfs": "btrfs", "f2fs": "f2fs"}
_TRIED = ("ext4", "xfs", "btrfs", "f2fs")
_OPTIONS = {"xfs": "ro,nouuid", "btrfs": "ro,subvolid=5"}


class Appliance:
    """The second reader of a VM's disks. have: what it is made of, or why it can't be."""

    def __init__(self, have: ApplianceParts | Unknown, disks: Sequence[OpenDisk], limits: ApplianceLimits) -> None:
        self._why = have if isinstance(have, Unknown) else None
        self._machine = None if isinstance(have, Unknown) else ApplianceMachine(have, disks, limits)
        self._tools = {} if isinstance(have, Unknown) else have.tools
        self._mounted: dict[tuple[str, str | None], int | Unknown] = {}
        self._assembled: set[str] = set()

    def prepare(self) -> None:
        """Before the limits of the process that asks. Where that fails, it answers nothing, and says why."""
        if self._machine is None:
            return
        try:
            self._machine.prepare()
        except OSError as error:
            self._machine, self._why = None, Unknown(f"the second reader can't be prepared: {error.strerror}")

    def close(self) -> None:
        """Its machine is gone then."""
        if self._machine is not None:
            self._machine.end()

    @property
    def started(self) -> bool:
        return self._machine is not None and self._machine.started

    def files(self, device: str, kind: str | None = None, others: Sequence[str] = ()) -> ApplianceFiles:
        """A volume's files. device: GRUB's name of it, `lvm/vg-root` of any logical volume. kind: as blkid calls what
        it holds, None where that is not known. others: the devices that its Btrfs is on, too."""
        return ApplianceFiles(self, device, kind, "", others)

    def mounted(self, device: str, kind: str | None, others: Sequence[str]) -> int | Unknown:
        """The number under which a volume is mounted; mounts it when it is asked for first."""
        key = device, kind
        if key not in self._mounted:
            if len(self._mounted) >= MAX_VOLUMES:
                return Unknown(f"the second reader reads no more than {MAX_VOLUMES} volumes")
            self._mounted[key] = self._mount(len(self._mounted), device, kind, others)
        return self._mounted[key]

    def ask(self, *words: str, path: str = "", most_bytes: int = 0) -> Said | Unknown:
        if self._machine is None:
            return self._why or Unknown("there is no second reader")
        try:
            return self._machine.ask(*words, path=path, most_bytes=most_bytes)
        except Exceeded as error:
            return Unknown(error.what)

    def _mount(self, number: int, device: str, kind: str | None, others: Sequence[str]) -> int | Unknown:
        if self._machine is None:
            return self._why or Unknown("there is no second reader")
        paths = [_path(each) for each in (device, *others)]
        if paths[0] is None:
            return Unknown(f"the second reader knows no device {device}")
        if kind is not None and kind not in _TYPES:
            return Unknown(f"it holds {kind or 'no file system'}, which the second reader does not read")
        if kind is None and not _MAPPED.fullmatch(device):
            return Unknown("what it holds is not known")
        for each in (device, *others):
            if isinstance(why := self._assemble(each), Unknown):
                return why
        said = [f"{device} is not there"]
        for one in (_TYPES[kind],) if kind else _TRIED:
            options = ",".join([_OPTIONS.get(one, "ro"), *(f"device={path}" for path in paths[1:] if path)])
            answer = self.ask("mount", str(number), one, options, path=paths[0])
            if isinstance(answer, Unknown):
                return answer
            if answer.word == agent.FOUND:
                return number
            said.append(" ".join(answer.text.split()))
        return Unknown(f"the second reader can't mount it: {said[1 if kind else -1][:300]}")

    def _assemble(self, device: str) -> Answer[str]:
        """Have what is put together of several disks be there: RAID first, for LVM may stand on it."""
        match = _MAPPED.fullmatch(device)
        if match is None:
            return ABSENT
        kinds = {"md": ("md",), "lvm": ("md", "lvm")}[match[1]]
        for one in kinds:
            tool = {"md": "mdadm", "lvm": "lvm"}[one]
            if tool not in self._tools:
                if one == match[1]:
                    package = {"mdadm": "mdadm", "lvm": "lvm2"}[tool]
                    return Unknown(f"the second reader has no {tool} (package {package})")
                continue
            if one not in self._assembled:
                self._assembled.add(one)
                said = self.ask(one)
                if isinstance(said, Unknown):
                    return said
        return ABSENT


class ApplianceFiles:
    """`Files`, of one volume."""

    def __init__(self, appliance: Appliance, device: str, kind: str | None, prefix: str, others: Sequence[str]) -> None:
        self._appliance, self._device, self._kind = appliance, device, kind
        self._prefix, self._others = prefix.rstrip("/"), tuple(others)

    def within(self, prefix: str) -> ApplianceFiles:
        return ApplianceFiles(self._appliance, self._device, self._kind, prefix, self._others)

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        data = self._whole(path, most_bytes)
        if isinstance(data, bytes) and len(data) > most_bytes:
            return Unknown(f"{path} is larger than {most_bytes >> 10} KiB")
        return data

    def _whole(self, path: str, most_bytes: int) -> Answer[bytes]:
        """A file, up to the block in which it is longer than that."""
        data = bytearray()
        for skip in range(most_bytes // BLOCK_BYTES + 1):
            block = self._block(path, BLOCK_BYTES, skip)
            if not isinstance(block, bytes):
                return block
            data += block
            if len(block) < BLOCK_BYTES:
                break
        return bytes(data)

    def head(self, path: str, count: int) -> Answer[bytes]:
        if count > BLOCK_BYTES:
            data = self._whole(path, count)
            return data[:count] if isinstance(data, bytes) else data
        return self._block(path, count, 0)

    @contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        with io.BufferedReader(_Blocks(self, path), BLOCK_BYTES) as file:
            file.peek(1)
            yield cast(BinaryIO, file)

    def names(self, path: str) -> Answer[list[str]]:
        said = self._asked("names", path=path, most_bytes=OUTPUT_BYTES)
        if not isinstance(said, Said):
            return said
        return [line for line in said.data.decode(errors="replace").split("\n") if line]

    def block(self, path: str, skip: int) -> bytes:
        """For `stream`: OSError as `Files` has it."""
        got = self._block(path, BLOCK_BYTES, skip)
        if isinstance(got, Unknown):
            raise OSError(got.why)
        if isinstance(got, Absent):
            raise FileNotFoundError("it is not there")
        return got

    def _block(self, path: str, size: int, skip: int) -> Answer[bytes]:
        said = self._asked("read", str(size), str(skip), path=path, most_bytes=size)
        return said.data if isinstance(said, Said) else said

    def _asked(self, verb: str, *words: str, path: str, most_bytes: int) -> Answer[Said]:
        if len(path) > MAX_PATH or "\n" in path or "\0" in path:
            return Unknown("its path is none that can be asked for")
        number = self._appliance.mounted(self._device, self._kind, self._others)
        if isinstance(number, Unknown):
            return number
        whole = self._prefix + "/" + posixpath.normpath(path).lstrip("/")
        said = self._appliance.ask(verb, str(number), *words, path=whole, most_bytes=most_bytes)
        if isinstance(said, Unknown):
            return said
        match said.word:
            case agent.FOUND:
                return said
            case agent.MISSING | agent.OTHER:
                return ABSENT
            case agent.LINK:
                return Beyond("it is a symbolic link that leads out of the volume, or to nothing")
        return Unknown(f"the second reader can't read it: {' '.join(said.text.split())[:200]}")


class _Blocks(io.RawIOBase):
    """A file, block by block."""

    def __init__(self, files: ApplianceFiles, path: str) -> None:
        self._files, self._path, self._skip = files, path, 0
        self._left, self._last = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if not self._left and not self._last:
            self._left = self._files.block(self._path, self._skip)
            self._skip += 1
            self._last = len(self._left) < BLOCK_BYTES
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _path(device: str) -> str | None:
    """Where a device is in the machine, by GRUB's name of it."""
    if match := _DISK.fullmatch(device):
        return f"/dev/disk{match[1]}" + (f"p{match[2]}" if match[2] else "")
    if match := _MAPPED.fullmatch(device):
        return f"/dev/mapper/{match[2]}" if match[1] == "lvm" else f"/dev/md/{match[2]}"
    return None

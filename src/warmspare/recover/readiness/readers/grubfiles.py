"""Files of one volume as GRUB reads them, with three answers: GRUB's words for "not there" are told from all others.

What GRUB does not find need not be missing: a symbolic link may lead out of the volume, and a damaged folder looks
empty. So "not there" is said only where a sound folder was listed that does not name it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import BinaryIO

from warmspare.recover.disks import programs
from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Beyond, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES
from warmspare.recover.readiness.readers import superblocks
from warmspare.recover.readiness.readers.grub import Grub, reason

MAX_PATH = 4096
MAX_DEPTH = 64  # folders on the way to a file that is not there
_KEPT, _KEPT_BYTES = 64, 1 << 16  # lists of folders, the short ones
_SAYABLE = re.compile(r"/[^\x00-\x1f\x7f]*")
_LISTING_ITSELF = {"ext*", "xfs"}  # whose folders hold `.`, so that one without is damaged
_ANY_CASE = {"fat", "exfat", "ntfs", "iso9660", "udf", "hfsplus"}


class GrubFiles:
    """`Files`. device: GRUB's name of the volume. filesystem: as GRUB calls it, "" where it knows none. prefix: the
    folder that is the root, such as a subvolume of Btrfs: "" or `/@`. refused: nothing of the volume could be read.
    reads: something could."""

    def __init__(self, grub: Grub, device: str, filesystem: str, prefix: str = "") -> None:
        self._grub, self._device, self._filesystem = grub, device, filesystem
        self._prefix = prefix.rstrip("/")
        self._lists: dict[str, list[str] | Unknown | None] = {}
        self.refused = self.reads = False

    def within(self, prefix: str) -> GrubFiles:
        """The same volume, with another folder of it as the root."""
        return GrubFiles(self._grub, self._device, self._filesystem, prefix)

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        done = self._cat(path, most_bytes)
        if isinstance(done, programs.Done):
            return Unknown(f"{path} is larger than {most_bytes >> 10} KiB") if done.cut else done.output
        return done

    def head(self, path: str, count: int) -> Answer[bytes]:
        done = self._cat(path, count)
        return done.output if isinstance(done, programs.Done) else done

    @contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        whole = self._whole(path)
        if isinstance(whole, Unknown):
            raise OSError(whole.why)
        try:
            with self._grub.stream(f"({self._device}){whole}") as file:
                yield file
        except programs.Failed:
            raise self._failure(path) from None

    def _failure(self, path: str) -> OSError:
        head = self.head(path, 1)
        if isinstance(head, Unknown):
            return OSError(head.why)
        return FileNotFoundError("it is not there") if head is ABSENT else OSError("it can't be read to its end")

    def names(self, path: str) -> Answer[list[str]]:
        whole = self._whole(path)
        if isinstance(whole, Unknown):
            return whole
        listed = self._list(whole)
        if listed is not None:
            return listed
        done = self._cat(path, 1)
        return ABSENT if isinstance(done, programs.Done) else done

    def _whole(self, path: str) -> str | Unknown:
        """A path from the volume's own root. What leads out of the prefix by `..` ends at it, as it does for Linux."""
        if len(path) > MAX_PATH or not _SAYABLE.fullmatch(path):
            return Unknown("its path is none that can be asked for")
        return (self._prefix + "/" + posixpath.normpath(path).lstrip("/")).rstrip("/") or "/"

    def _cat(self, path: str, most_bytes: int) -> Answer[programs.Done]:
        whole = self._whole(path)
        if isinstance(whole, Unknown):
            return whole
        file = f"({self._device}){whole}"
        if self.refused and "_unread" in self.__dict__:
            return self._unread
        try:
            done = self._grub.run("cat", file, output_bytes=most_bytes)
        except Exceeded as error:
            return Unknown(error.what)
        self.reads = self.reads or done.code == 0
        return done if done.code == 0 else self._failed(whole, reason(done.complaint, file))

    def _failed(self, whole: str, why: str) -> Absent | Unknown:
        """What a refusal means. GRUB cuts a message after 255 bytes, so its end need not be there."""
        if why.startswith("file `"):
            return self._missing(whole)
        if why == "not a directory":
            return ABSENT
        if why == "not a regular file":
            if isinstance(listed := self._list(whole), list):
                return ABSENT
            return listed or Unknown("it is no regular file, or a folder that can't be read")
        if why == "unknown filesystem":
            self.refused = True
            return self._unread
        if why == "no such partition" or why.startswith("disk `"):
            self.refused = True
            return Unknown(f"{self._grub.version} sees no such volume")
        return Unknown(f"{self._grub.version} can't read it: {why}")

    @cached_property
    def _unread(self) -> Unknown:
        """Why nothing of the volume can be read."""
        head = self._grub.raw(self._device, 0, superblocks.HEAD_BYTES)
        if isinstance(head, Unknown):
            return head
        known = superblocks.features(head)
        if known is None:
            return Unknown(f"it holds no file system that {self._grub.version} knows")
        kind, named = known
        if not named:
            return Unknown(f"its {kind} is damaged, or {self._grub.version} does not read it")
        return Unknown(f"its {kind} has {', '.join(named)}, which {self._grub.version} does not read")

    def _missing(self, whole: str) -> Absent | Unknown:
        """What is not found: whether the last folder on the way that is there was read, and does not name it."""
        parts = whole.strip("/").split("/")
        if len(parts) > MAX_DEPTH:
            return Unknown(f"its path has more than {MAX_DEPTH} folders")
        for depth, part in enumerate(parts):
            folder = "/" + "/".join(parts[:depth])
            listed = self._list(folder)
            if isinstance(listed, Unknown):
                return listed
            if listed is None:
                return self._no_folder(folder)
            if not self._is_in(part, listed):
                return ABSENT
        if self._filesystem in _ANY_CASE:
            return Unknown(f"{self._grub.version} does not find it, and the folder names it")
        return Beyond("it is a symbolic link that leads out of the volume, or to nothing")

    def _no_folder(self, folder: str) -> Absent | Unknown:
        """What the folder before it named and is none: a file, or a link that leads nowhere."""
        if folder == "/":
            return self._unread
        try:
            done = self._grub.run("cat", f"({self._device}){folder}", output_bytes=1)
        except Exceeded as error:
            return Unknown(error.what)
        if done.code == 0:
            return ABSENT
        return Unknown(f"{folder} is a symbolic link that leads out of the volume, or it can't be read")

    def _is_in(self, name: str, listed: list[str]) -> bool:
        here = {each.rstrip("/") for each in listed}
        if self._filesystem in _ANY_CASE:  # NTFS's reader finds some names in their own case only
            return name.casefold() in {each.casefold() for each in here}
        # Names are separated by spaces, and may hold some.
        return name in here or (" " in name and set(name.split()) <= here)

    def _list(self, whole: str) -> list[str] | Unknown | None:
        """What a folder holds; None where it is none, or can't be listed."""
        if whole in self._lists:
            return self._lists[whole]
        listed, length = self._listed(whole)
        if len(self._lists) < _KEPT and length <= _KEPT_BYTES:
            self._lists[whole] = listed
        return listed

    def _listed(self, whole: str) -> tuple[list[str] | Unknown | None, int]:
        try:
            done = self._grub.run("ls", "--", "-a", f"({self._device}){whole.rstrip('/')}/")
        except Exceeded as error:
            return Unknown(error.what), 0
        if done.cut:
            return Unknown(f"the list of its folder is longer than {programs.OUTPUT_BYTES >> 20} MiB"), 0
        # The line's end comes only after the last name: without it the folder was not read to its end. A name's own
        # line end has a space behind it.
        if not done.output.endswith(b"\n") or done.output[-2:-1] not in (b"", b" "):
            return (Unknown("its folder can't be read to its end") if done.output else None), 0
        words = [word for word in done.output[:-1].decode(errors="replace").split(" ") if word]
        if self._filesystem in _LISTING_ITSELF and "./" not in words:
            return Unknown("its folder is damaged"), 0
        return [word for word in words if word not in ("./", "../")], len(done.output)

"""Unified kernel images: EFI programs that hold a kernel, its initramfs and its command line; refuses other programs.

What is inside is read as if each section were a file beside the image: `/EFI/Linux/x.efi:.linux`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles
from warmspare.recover.readiness.loaders import pe

_SEPARATOR = ":."
_TEXT_BYTES = 1 << 16
MAX_ADDONS = 32


@dataclass(frozen=True, slots=True)
class UkiImage:
    """place: of the program. release: what its .osrel says. options: its own command line. uname: the kernel's version,
    "" where it does not say."""

    place: FilePlace
    program: pe.Program
    release: dict[str, str]
    options: str
    uname: str

    @property
    def title(self) -> str:
        names = (self.release.get("PRETTY_NAME"), self.release.get("NAME"), self.release.get("ID"))
        return next((name for name in names if name), self.place.path.rpartition("/")[2])

    @property
    def version(self) -> str:
        """As systemd-boot orders by it."""
        keys = ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
        return next((value for key in keys if (value := self.release.get(key))), "")

    @property
    def sort_key(self) -> str:
        return self.release.get("IMAGE_ID") or self.release.get("ID", "")

    def entry(self, options: str = "") -> Entry:
        """How its kernel is started. options: given by a loader's entry, in place of its own."""
        inside = [
            FilePlace(self.place.device, self.place.path + ":" + name) for name in (".ucode", ".initrd", ".linux")
        ]
        initrds = tuple(each for each in inside[:2] if self.program.section(each.path.rpartition(":")[2]))
        words = tuple((options or self.options).split())
        return Entry(self.place.path, self.title, inside[2], initrds, words, self.uname)


def image(files: GuestFiles, place: FilePlace) -> Answer[UkiImage]:
    """ABSENT where there is no such file, or it is no unified kernel image."""
    program = pe.program_of(files, place.path)
    if isinstance(program, Absent | Unknown):
        return program
    if not program.section(".linux"):
        return ABSENT
    texts = dict[str, str]()
    for name in (".osrel", ".cmdline", ".uname"):
        text = _text(files, place.path, program, name)
        if isinstance(text, Unknown):
            return text
        texts[name] = text
    options = texts[".cmdline"]
    for addon in _addons(files, place.path):
        if isinstance(addon, Unknown):
            return addon
        options += " " + addon
    return UkiImage(place, program, release(texts[".osrel"]), options, texts[".uname"].strip())


def _text(files: GuestFiles, path: str, program: pe.Program, name: str) -> str | Unknown:
    section = program.section(name)
    data = pe.section_bytes(files, path, section, most_bytes=_TEXT_BYTES) if section else b""
    if isinstance(data, bytes):
        return data.split(b"\0", 1)[0].decode(errors="replace").strip("\n ")
    return data if isinstance(data, Unknown) else ""


def _addons(files: GuestFiles, path: str) -> list[str | Unknown]:
    """What is added to the command line: of this image, and of every one."""
    found = list[str | Unknown]()
    for folder in (path + ".extra.d", "/loader/addons"):
        names = files.names(folder)
        if isinstance(names, Unknown):
            found.append(names)
        for name in sorted(names)[:MAX_ADDONS] if isinstance(names, list) else []:
            if name.lower().endswith(".addon.efi"):
                addon = f"{folder}/{name}"
                program = pe.program_of(files, addon)
                if isinstance(program, pe.Program):
                    found.append(_text(files, addon, program, ".cmdline"))
                elif isinstance(program, Unknown):
                    found.append(program)
    return found


def release(text: str) -> dict[str, str]:
    """The variables of an os-release."""
    found = dict[str, str]()
    for line in text.split("\n"):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            found[name] = value.strip("\"'")
    return found


class Inside:
    """A tree of files in which what programs hold can be read too."""

    def __init__(self, files: GuestFiles) -> None:
        self._files = files

    def _section(self, path: str) -> tuple[str, Answer[pe.Section]] | None:
        """The program and the section; None where the path names a plain file."""
        file, separator, name = path.rpartition(_SEPARATOR)
        if not separator or not file.lower().endswith(".efi"):
            return None
        program = pe.program_of(self._files, file)
        section = program.section("." + name) if isinstance(program, pe.Program) else program
        return file, section or ABSENT

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        inside = self._section(path)
        if inside is None:
            return self._files.read(path, most_bytes=most_bytes)
        file, section = inside
        if isinstance(section, Absent | Unknown):
            return section
        return pe.section_bytes(self._files, file, section, most_bytes=most_bytes)

    def head(self, path: str, count: int) -> Answer[bytes]:
        inside = self._section(path)
        if inside is None:
            return self._files.head(path, count)
        file, section = inside
        if isinstance(section, Absent | Unknown):
            return section
        part = pe.Section(section.name, section.offset, min(section.bytes, count))
        return pe.section_bytes(self._files, file, part, most_bytes=max(count, 1))

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        inside = self._section(path)
        if inside is None:
            return self._files.stream(path)
        file, section = inside
        if isinstance(section, Absent | Unknown):
            raise OSError(section.why if isinstance(section, Unknown) else "no such file")
        return pe.section_stream(self._files, file, section)

    def names(self, path: str) -> Answer[list[str]]:
        return self._files.names(path)

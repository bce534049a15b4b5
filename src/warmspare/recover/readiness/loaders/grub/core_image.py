"""GRUB's own images: the objects behind its kernel, which say its prefix and the commands it begins with; runs no code.

An EFI image keeps them in its section `mods`; an image for the BIOS has them behind its unpacked kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from warmspare.recover.readiness.loaders.grub.memdisk import Memdisk

MAX_OBJECTS = 2000
_MAGIC = b"mimg"
_MODULE, _MEMDISK, _CONFIG, _PREFIX = 0, 1, 2, 3
_NORMAL = b"\0normal\0"  # as the module's own name stands in it
_MAX_TEXT = 1 << 16


@dataclass(frozen=True, slots=True)
class CoreImage:
    """prefix: "" where it has none. config: commands. memdisk: None where it has none. normal: the module without which
    GRUB reads no configuration is in it; else it is loaded from below the prefix."""

    prefix: str
    config: str
    memdisk: Memdisk | None
    normal: bool = True


def objects(data: bytes, *, wide: bool) -> CoreImage | None:
    """What an area of objects says, that begins here; None where it is none. wide: of a 64-bit image."""
    if len(data) < 24 or data[:4] != _MAGIC:
        return None
    at, size = struct.unpack_from("<QQ", data, 8) if wide else struct.unpack_from("<II", data, 4)
    if not 8 <= at <= size <= len(data):
        return None
    prefix, config, memdisk, normal = "", "", None, False
    for _ in range(MAX_OBJECTS):
        if at == size:
            return CoreImage(prefix, config, memdisk, normal)
        if at + 8 > size:
            return None
        kind, length = struct.unpack_from("<II", data, at)
        if length < 8 or at + length > size:
            return None
        if kind in (_PREFIX, _CONFIG):
            text = data[at + 8 : at + min(length, _MAX_TEXT)].split(b"\0", 1)[0].decode(errors="replace")
            prefix, config = (text, config) if kind == _PREFIX else (prefix, text)
        elif kind == _MODULE:
            normal = normal or _NORMAL in data[at + 8 : at + length]
        elif kind == _MEMDISK:
            memdisk = Memdisk(data[at + 8 : at + length])
        at += length
    return None


def found(data: bytes) -> CoreImage | None:
    """The objects behind an unpacked 32-bit kernel."""
    at = -1
    for _ in range(16):  # the letters may stand in the kernel, too
        at = data.find(_MAGIC, at + 1)
        if at < 0:
            return None
        if (known := objects(data[at:], wide=False)) is not None:
            return known
    return None

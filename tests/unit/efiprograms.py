"""EFI programs for tests: PE/COFF files with given sections, unified kernel images, kernels that state a version."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def program(sections: Mapping[str, bytes] | Sequence[tuple[str, bytes]], *, machine: int = 0x8664) -> bytes:
    """A file that has these sections, one behind another at multiples of 512; by pairs, where a name is there twice."""
    listed = [*sections.items()] if isinstance(sections, Mapping) else sections
    table, data, at = bytearray(), bytearray(), 0x400
    for name, content in listed:
        table += struct.pack(
            "<8sIIII16x", name.encode(), len(content), at, len(content) + -len(content) % 512, at + len(data)
        )
        data += content + bytes(-len(content) % 512)
    head = bytearray(0x80)
    head[:2], head[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    head += b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(listed), 0, 0, 0, 240, 0x2022)
    head += bytes(240) + table
    assert len(head) <= at
    return bytes(head).ljust(at, b"\0") + bytes(data)


def unified(
    *, options: str = "", release: str = "", uname: str = "", kernel: bytes = b"kernel", initrd: bytes = b"initrd"
) -> bytes:
    """A unified kernel image."""
    return program(
        {
            ".osrel": release.encode(),
            ".cmdline": options.encode() + b"\0",
            ".uname": uname.encode(),
            ".linux": kernel,
            ".initrd": initrd,
        }
    )


def kernel(version: str) -> bytes:
    """The first sectors of a bzImage."""
    head = bytearray(0x2000)
    head[0x1FE:0x200], head[0x202:0x206] = b"\x55\xaa", b"HdrS"
    head[0x206:0x208], head[0x20E:0x210] = struct.pack("<H", 0x20F), struct.pack("<H", 0x1000)
    text = f"{version} (builder@host) #1 SMP".encode()
    head[0x1200 : 0x1200 + len(text)] = text
    return bytes(head)

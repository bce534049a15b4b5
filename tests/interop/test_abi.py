"""The header that binding and stand-in share, held against the client that was written without it."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from interop import vddk_client as client
from standin import CALLS, OTHERS, build

EXT = Path(__file__).resolve().parents[2] / "ext"
HEADER = EXT / "vixdisklib.h"

# What a field of the client is called in the header, where that differs.
STRUCTURES: dict[str, tuple[type[ctypes.Structure], dict[str, str]]] = {
    "VixDiskLibConnectParams": (
        client.ConnectParams,
        {
            "reserved0": "privateUse",
            "creds.uid.userName": "creds.uid.userName",
            "creds.uid.password": "creds.uid.password",
            "creds.sessionId.cookie": "creds.sessionId.cookie",
            "creds.sessionId.userName": "creds.sessionId.userName",
            "creds.sessionId.key": "creds.sessionId.key",
            "creds.reserved": "creds.ticketId",
            "spec.disk.id": "spec.vStorageObjSpec.id",
            "spec.disk.datastoreMoRef": "spec.vStorageObjSpec.datastoreMoRef",
            "spec.disk.ssId": "spec.vStorageObjSpec.ssId",
        },
    ),
    "VixDiskLibGeometry": (client.Geometry, {}),
    "VixDiskLibInfo": (client.Info, {}),
    "VixDiskLibBlock": (client.Block, {}),
    "VixDiskLibBlockList": (client.BlockList, {}),
}

CONSTANTS = {
    "VIX_OK": 0,
    "VIX_E_FAIL": 1,
    "VIX_ASYNC": client.ASYNC,
    "VIX_E_HOST_TCP_CONN_LOST": 14011,
    "VIX_E_HOST_NETBLKDEV_HANDSHAKE": 14006,
    "VIX_E_HOST_SOCKET_CREATION_ERROR": 14007,
    "VIX_E_HOST_SERVER_NOT_FOUND": 14008,
    "VIX_E_HOST_NETWORK_CONN_REFUSED": 14009,
    "VIX_E_HOST_TCP_SOCKET_ERROR": 14010,
    "VIX_E_DISK_INVAL": 16000,
    "VIX_E_DISK_OUTOFRANGE": 16007,
    "VIX_E_DISK_CID_MISMATCH": 16008,
    "VIX_E_DISK_NEEDKEY": 16014,
    "VIXDISKLIB_SECTOR_SIZE": client.SECTOR,
    "VIXDISKLIB_MIN_CHUNK_SIZE": 128,
    "VIXDISKLIB_MAX_CHUNK_NUMBER": 1 << 19,
    "VIXDISKLIB_FLAG_OPEN_UNBUFFERED": 1,
    "VIXDISKLIB_FLAG_OPEN_SINGLE_LINK": 2,
    "VIXDISKLIB_FLAG_OPEN_READ_ONLY": client.READ_ONLY,
    "VIXDISKLIB_FLAG_OPEN_COMPRESSION_ZLIB": 16,
    "VIXDISKLIB_FLAG_OPEN_COMPRESSION_FASTLZ": 32,
    "VIXDISKLIB_FLAG_OPEN_COMPRESSION_SKIPZ": 64,
    "VIXDISKLIB_CRED_UID": client.UID,
    "VIXDISKLIB_CRED_SESSIONID": client.SESSION_ID,
    "VIXDISKLIB_CRED_TICKETID": 3,
    "VIXDISKLIB_CRED_SSPI": 4,
    "VIXDISKLIB_SPEC_VMX": 0,
    "VIXDISKLIB_SPEC_VSTORAGE_OBJECT": 1,
    "VIX_ERROR_CODE(0x10000003e8fULL)": 16015,
}


def place(structure: Any, dotted: str) -> tuple[int, int]:
    """(offset, size) of a field of a field."""
    offset = size = 0
    for name in dotted.split("."):
        descriptor = getattr(structure, name)
        offset += descriptor.offset
        size = descriptor.size
        structure = dict(structure._fields_)[name]
    return offset, size


def test_layouts_and_constants(tmp_path: Path) -> None:
    lines, expected = [], []
    for name, (structure, others) in STRUCTURES.items():
        lines.append(f'printf("%zu\\n", sizeof({name}));')
        expected.append((f"sizeof {name}", str(ctypes.sizeof(structure))))
        for field in dict.fromkeys([*(field for field, *_ in structure._fields_), *others]):
            ours = others.get(field, field)
            sized = f"sizeof((({name} *)0)->{ours})" if field != "blocks" else "(size_t)0"
            lines.append(f'printf("%zu %zu\\n", offsetof({name}, {ours}), {sized});')
            expected.append((f"{name}.{ours}", "{} {}".format(*place(structure, field))))
    for name, value in CONSTANTS.items():
        lines.append(f'printf("%llu\\n", (unsigned long long)({name}));')
        expected.append((name, str(value)))
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <vixdisklib.h>\n"
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    program = tmp_path / "layout"
    subprocess.run(["gcc", "-Wall", "-Werror", f"-I{EXT}", "-o", program, source], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    assert list(zip((what for what, _ in expected), printed, strict=True)) == expected


def header_functions() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name -> (kind of the result, kinds of the arguments), as the header has them."""
    text = HEADER.read_text().replace("\\\n", " ")
    found = re.findall(r"\b[RO]\(([^,()]+),\s*(\w+),\s*\(([^()]*)\)\)", text)
    return {
        name: (
            kind(result),
            tuple(kind(each.strip()) for each in arguments.split(",") if each.strip() != "void"),
        )
        for result, name, arguments in found
    }


def kind(c_type: str) -> str:
    if "*" in c_type or re.match(r"VixDiskLib(Connection|Handle|GenericLogFunc|CompletionCB)\b", c_type):
        return "pointer"
    known = {"uint32_t": "4 bytes", "uint64_t": "8 bytes", "VixError": "8 bytes", "char": "1 byte", "void": "nothing"}
    return known[c_type.split()[0]]


def ctypes_kind(given: Any) -> str:
    if given is None:
        return "nothing"
    known = {ctypes.c_uint32: "4 bytes", ctypes.c_uint64: "8 bytes", ctypes.c_char: "1 byte"}
    return known.get(given, "pointer")


def test_signatures() -> None:
    ours = header_functions()
    theirs = {
        name: (ctypes_kind(result), tuple(map(ctypes_kind, arguments)))
        for name, (result, arguments) in client.SIGNATURES.items()
    }
    assert ours == theirs


def test_the_counts_file_has_the_order_of_the_header() -> None:
    assert tuple(header_functions()) == CALLS


@pytest.mark.parametrize("variant", ["old", "usual", "new"])
def test_symbols_and_soname_are_those_of_a_vddk(variant: str) -> None:
    old = variant == "old"
    later = (
        "AllocateConnectParams",
        "ReadAsync",
        "WriteAsync",
        "Wait",
        "QueryAllocatedBlocks",
        "FreeBlockList",
        "Flush",
    )
    directory = build(old=old, new=variant == "new") / "lib64"
    library = directory / "libvixDiskLib.so"
    listed = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    expected = {f"VixDiskLib_{name}" for name in (*CALLS, *OTHERS) if not (old and name in later)}
    assert {line.split()[-1] for line in listed.splitlines()} == expected
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    number, version = {"old": ("6", "6.5.0"), "usual": ("8", "8.0.2"), "new": ("9", "9.1.0.0")}[variant]
    assert f"[libvixDiskLib.so.{number}]" in dynamic
    assert sorted(path.name for path in directory.iterdir()) == [
        "libvixDiskLib.so",
        f"libvixDiskLib.so.{number}",
        f"libvixDiskLib.so.{version}",
    ]

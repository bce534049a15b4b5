"""A VDDK client in ctypes, written from the tables of the public ABI; on purpose shares nothing with our header."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from ctypes import POINTER, Structure, Union, c_char, c_char_p, c_int, c_long, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

SECTOR = 512
ASYNC = 25000
READ_ONLY = 4
UID, SESSION_ID = 1, 2

LOG = ctypes.CFUNCTYPE(None, c_char_p, c_void_p)  # a va_list is passed as a pointer on x86-64
COMPLETION = ctypes.CFUNCTYPE(None, c_void_p, c_uint64)


class UserPassword(Structure):
    _fields_ = (("userName", c_char_p), ("password", c_char_p))


class SessionId(Structure):
    _fields_ = (("cookie", c_char_p), ("userName", c_char_p), ("key", c_char_p))


class Credentials(Union):
    _fields_ = (("uid", UserPassword), ("sessionId", SessionId), ("reserved", c_void_p))


class FirstClassDisk(Structure):
    _fields_ = (("id", c_char_p), ("datastoreMoRef", c_char_p), ("ssId", c_char_p))


class Spec(Union):
    _fields_ = (("disk", FirstClassDisk),)


class ConnectParams(Structure):
    _fields_ = (
        ("vmxSpec", c_char_p),
        ("serverName", c_char_p),
        ("thumbPrint", c_char_p),
        ("reserved0", c_long),
        ("credType", c_int),
        ("creds", Credentials),
        ("port", c_uint32),
        ("nfcHostPort", c_uint32),
        ("reserved1", c_char_p),
        ("reserved2", c_char * 8),
        ("reserved3", c_void_p),
        ("spec", Spec),
        ("specType", c_int),
    )


class Geometry(Structure):
    _fields_ = (("cylinders", c_uint32), ("heads", c_uint32), ("sectors", c_uint32))


class Info(Structure):
    _fields_ = (
        ("biosGeo", Geometry),
        ("physGeo", Geometry),
        ("capacity", c_uint64),
        ("adapterType", c_int),
        ("numLinks", c_int),
        ("parentFileNameHint", c_char_p),
        ("uuid", c_char_p),
        ("logicalSectorSize", c_uint32),
        ("physicalSectorSize", c_uint32),
    )


class Block(Structure):
    _fields_ = (("offset", c_uint64), ("length", c_uint64))


class BlockList(Structure):
    _fields_ = (("numBlocks", c_uint32), ("blocks", Block * 0))


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "InitEx": (c_uint64, (c_uint32, c_uint32, LOG, LOG, LOG, c_char_p, c_char_p)),
    "Exit": (None, ()),
    "GetErrorText": (c_void_p, (c_uint64, c_char_p)),
    "FreeErrorText": (None, (c_void_p,)),
    "AllocateConnectParams": (POINTER(ConnectParams), ()),
    "FreeConnectParams": (None, (POINTER(ConnectParams),)),
    "ConnectEx": (c_uint64, (POINTER(ConnectParams), c_char, c_char_p, c_char_p, POINTER(c_void_p))),
    "Disconnect": (c_uint64, (c_void_p,)),
    "PrepareForAccess": (c_uint64, (POINTER(ConnectParams), c_char_p)),
    "EndAccess": (c_uint64, (POINTER(ConnectParams), c_char_p)),
    "Cleanup": (c_uint64, (POINTER(ConnectParams), POINTER(c_uint32), POINTER(c_uint32))),
    "ListTransportModes": (c_char_p, ()),
    "Open": (c_uint64, (c_void_p, c_char_p, c_uint32, POINTER(c_void_p))),
    "Close": (c_uint64, (c_void_p,)),
    "Flush": (c_uint64, (c_void_p,)),
    "Wait": (c_uint64, (c_void_p,)),
    "GetInfo": (c_uint64, (c_void_p, POINTER(POINTER(Info)))),
    "FreeInfo": (None, (POINTER(Info),)),
    "GetTransportMode": (c_char_p, (c_void_p,)),
    "Read": (c_uint64, (c_void_p, c_uint64, c_uint64, c_void_p)),
    "Write": (c_uint64, (c_void_p, c_uint64, c_uint64, c_void_p)),
    "ReadAsync": (c_uint64, (c_void_p, c_uint64, c_uint64, c_void_p, COMPLETION, c_void_p)),
    "WriteAsync": (c_uint64, (c_void_p, c_uint64, c_uint64, c_void_p, COMPLETION, c_void_p)),
    "QueryAllocatedBlocks": (c_uint64, (c_void_p, c_uint64, c_uint64, c_uint64, POINTER(POINTER(BlockList)))),
    "FreeBlockList": (c_uint64, (POINTER(BlockList),)),
}


class VddkError(Exception):
    """A call failed; `code` is the low 16 bits of what it returned."""

    def __init__(self, call: str, error: int) -> None:
        super().__init__(f"{call}: error {error & 0xFFFF}")
        self.call, self.code = call, error & 0xFFFF


class Completions:
    """Results of asynchronous calls by tag; may be appended to from any thread."""

    def __init__(self) -> None:
        self.results: list[tuple[int, int]] = []
        self.then: Callable[[int, int], None] | None = None
        self.function = COMPLETION(self._done)

    def _done(self, tag: int | None, result: int) -> None:
        self.results.append((tag or 0, result & 0xFFFF))
        if self.then:
            self.then(tag or 0, result)


class Client:
    """One loaded library: `client.raw.Open(...)` as it is; methods that raise VddkError for what is usual."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        self.raw: Any = type("raw", (), {})()
        self.missing: list[str] = []
        for name, (result, arguments) in SIGNATURES.items():
            try:
                function = loaded[f"VixDiskLib_{name}"]
            except AttributeError:
                self.missing.append(name)
                continue
            function.restype, function.argtypes = result, arguments
            setattr(self.raw, name, function)
        self.said: list[tuple[str, str]] = []
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_void_p, ctypes.c_size_t, c_char_p, c_void_p)
        self.callbacks = [LOG(self._hear(level)) for level in ("log", "warn", "panic")]

    def _hear(self, level: str) -> Callable[[bytes, int], None]:
        def hear(form: bytes, arguments: int) -> None:
            text = ctypes.create_string_buffer(2000)
            self._vsnprintf(text, 2000, form, arguments)
            self.said.append((level, text.value.decode()))

        return hear

    def check(self, call: str, *arguments: Any) -> None:
        error = getattr(self.raw, call)(*arguments)
        if error:
            raise VddkError(call, error)

    def init(self, major: int = 8, minor: int = 0, directory: bytes | None = None, config: bytes | None = None) -> None:
        self.check("InitEx", major, minor, *self.callbacks, directory, config)

    def error_text(self, error: int) -> str:
        pointer = self.raw.GetErrorText(error, None)
        text = ctypes.string_at(pointer).decode()
        self.raw.FreeErrorText(pointer)
        return text

    def params(self, **fields: Any) -> Any:
        """A pointer to allocated parameters with these fields; `userName`, `password`, `cookie`, `key` go to creds."""
        params = self.raw.AllocateConnectParams()
        self.fill(params.contents, **fields)
        return params

    @staticmethod
    def fill(params: ConnectParams, **fields: Any) -> None:
        params.credType = fields.pop("credType", UID)
        place = params.creds.sessionId if params.credType == SESSION_ID else params.creds.uid
        for name, value in fields.items():
            if isinstance(value, str):
                value = value.encode()
            setattr(place if name in ("userName", "password", "cookie", "key") else params, name, value)

    def connect(
        self, params: Any, read_only: bool = True, snapshot: bytes | None = None, modes: bytes | None = None
    ) -> Any:
        connection = c_void_p()
        self.check("ConnectEx", params, bytes([read_only]), snapshot, modes, ctypes.byref(connection))
        return connection

    def open(self, connection: Any, path: str, flags: int = READ_ONLY) -> Any:
        handle = c_void_p()
        self.check("Open", connection, path.encode(), flags, ctypes.byref(handle))
        return handle

    @contextlib.contextmanager
    def opened(self, path: str, *, read_only: bool = True, modes: bytes | None = None, **fields: Any) -> Iterator[Any]:
        """A handle of a disk, with a connection of its own that ends with it."""
        params = self.params(**fields)
        connection = self.connect(params, read_only, modes=modes)
        handle = self.open(connection, path, READ_ONLY if read_only else 0)
        try:
            yield handle
        finally:
            self.check("Close", handle)
            self.check("Disconnect", connection)
            self.raw.FreeConnectParams(params)

    def info(self, handle: Any) -> dict[str, Any]:
        pointer = POINTER(Info)()
        self.check("GetInfo", handle, ctypes.byref(pointer))
        found = {name: getattr(pointer.contents, name) for name, *_ in Info._fields_}
        for name in ("biosGeo", "physGeo"):
            found[name] = (found[name].cylinders, found[name].heads, found[name].sectors)
        self.raw.FreeInfo(pointer)
        return found

    def blocks(self, handle: Any, start: int, sectors: int, chunk: int) -> list[tuple[int, int]]:
        pointer = POINTER(BlockList)()
        self.check("QueryAllocatedBlocks", handle, start, sectors, chunk, ctypes.byref(pointer))
        first = ctypes.addressof(pointer.contents) + BlockList.blocks.offset
        found = (Block * pointer.contents.numBlocks).from_address(first)
        blocks = [(block.offset, block.length) for block in found]
        self.raw.FreeBlockList(pointer)
        return blocks

    def read(self, handle: Any, start: int, sectors: int) -> bytes:
        buffer = ctypes.create_string_buffer(sectors * SECTOR)
        self.check("Read", handle, start, sectors, buffer)
        return buffer.raw

    def queue(self, handle: Any, start: int, sectors: int, buffer: Any, done: Completions, tag: int) -> None:
        """One ReadAsync, which must be accepted."""
        error = self.raw.ReadAsync(handle, start, sectors, buffer, done.function, tag)
        if error != ASYNC:
            raise VddkError("ReadAsync", error)

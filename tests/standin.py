"""A VDDK directory that is none: builds ext/standin, configures it, and tells what it saw; drives no call itself."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_SOURCES = _ROOT / "ext" / "standin"

# In the order of the counts file, which is that of ext/vixdisklib.h.
CALLS = (
    "InitEx",
    "Exit",
    "GetErrorText",
    "FreeErrorText",
    "FreeConnectParams",
    "ConnectEx",
    "Disconnect",
    "PrepareForAccess",
    "EndAccess",
    "Cleanup",
    "ListTransportModes",
    "Open",
    "Close",
    "GetInfo",
    "FreeInfo",
    "GetTransportMode",
    "Read",
    "Write",
    "Flush",
    "AllocateConnectParams",
    "ReadAsync",
    "WriteAsync",
    "Wait",
    "QueryAllocatedBlocks",
    "FreeBlockList",
)
# What follows there: what a tool that only reads must not call (ext/standin/others.c).
OTHERS = (
    "Init",
    "Connect",
    "GetConnectParams",
    "Create",
    "CreateChild",
    "Unlink",
    "Rename",
    "Clone",
    "Grow",
    "Shrink",
    "Defragment",
    "Attach",
    "IsAttachPossible",
    "SpaceNeededForClone",
    "CheckRepair",
    "ReadMetadata",
    "WriteMetadata",
    "GetMetadataKeys",
)
TOTAL = "*"
_COUNTS = struct.Struct(f"={len(CALLS) + len(OTHERS) + 1}Q")
_LOOK_S = 0.004  # the library looks at its script every 2 ms


def build(*, sanitize: str = "", old: bool = False, new: bool = False) -> Path:
    """The directory with the built `lib64` of that variant; built once for the sources as they are."""
    flags = [f"SANITIZE={sanitize}"] * bool(sanitize) + ["STANDIN_OLD=1"] * old + ["STANDIN_NEW=1"] * new
    digest = hashlib.sha256(" ".join(flags).encode())
    for path in sorted([*_SOURCES.glob("*.[ch]"), _SOURCES / "Makefile", _ROOT / "ext" / "vixdisklib.h"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    cache = _ROOT / "build" / "standin"
    cache.mkdir(parents=True, exist_ok=True)
    built = cache / digest.hexdigest()[:16]
    with (cache / "lock").open("w") as lock:  # closing it lets go of it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            out = Path(tempfile.mkdtemp(dir=cache))
            command = ["make", "-s", "-C", str(_SOURCES), f"OUT={out}", *flags]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode or done.stderr:
                shutil.rmtree(out)
                raise RuntimeError(f"the stand-in does not build without a word:\n{done.stdout}{done.stderr}")
            out.chmod(0o755)
            out.rename(built)
    return built


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)


@dataclass(slots=True)
class Standin:
    """A fake VDDK directory at `home` (made if need be), to be given to whatever loads a VDDK.

    Disks, expectations and modes are read when a process first calls the library; the script at any time.
    """

    home: Path
    sanitize: str = ""
    old: bool = False
    new: bool = False
    _disks: dict[str, str] = field(default_factory=dict)
    _expected: dict[str, str] = field(default_factory=dict)
    _settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        built = build(sanitize=self.sanitize, old=self.old, new=self.new)
        shutil.copytree(built, self.home, symlinks=True, dirs_exist_ok=True)
        self._configure()

    @property
    def library(self) -> Path:
        """As dlopen would be given it."""
        return self.home / "lib64" / "libvixDiskLib.so"

    def disk(self, vddk_path: str, file: Path, uuid: str | None = None) -> None:
        """Let Open find the raw image `file` as `vddk_path`, say `[store] vm/vm.vmdk`."""
        fields = [vddk_path, str(file)] + ([uuid] if uuid else [])
        self._disks[vddk_path] = "\t".join(["disk", *fields])
        self._configure()

    def expect(self, **params: str | int | bool) -> None:
        """What ConnectEx (and PrepareForAccess) must be given; names as in VixDiskLibConnectParams."""
        for name, value in params.items():
            self._expected[name] = f"expect\t{name}\t{int(value) if isinstance(value, bool) else value}"
        self._configure()

    def modes(self, offered: str) -> None:
        """The transport modes it offers, in its own order of preference: `nbdssl:nbd`."""
        self._settings["modes"] = f"modes\t{offered}"
        self._configure()

    def threads(self, number: int) -> None:
        """How many threads complete asynchronous requests."""
        self._settings["threads"] = f"threads\t{number}"
        self._configure()

    def rules(self, name: str) -> None:
        """By whose reading of the documents it judges its clients: `strict`, or `nbdkit`."""
        self._settings["rules"] = f"rules\t{name}"
        self._configure()

    def script(self, text: str) -> None:
        """What is to go wrong from now on, in running processes too: ext/standin/README.md has the lines."""
        _replace(self.home / "standin.script", text.rstrip("\n") + "\n")
        time.sleep(_LOOK_S)

    def counts(self) -> dict[str, int]:
        """Calls of each function so far, over all processes; `*` is their total."""
        return self._numbers()[0]

    def hits(self) -> dict[str, int]:
        """Calls that the script did something to."""
        return self._numbers()[1]

    def breaches(self) -> list[str]:
        """What clients did that a VDDK need not put up with, oldest first."""
        path = self.home / "standin.breaches"
        return path.read_text().splitlines() if path.exists() else []

    def check(self) -> None:
        """Raises AssertionError that lists the breaches, if there are any."""
        found = self.breaches()
        assert not found, "breaches of the VDDK's rules:\n" + "\n".join(found)

    def _configure(self) -> None:
        lines = [*self._settings.values(), *self._disks.values(), *self._expected.values()]
        if any("\n" in line for line in lines):
            raise ValueError("a value has a newline in it")
        path = self.home / "standin.conf"
        _replace(path, "".join(line + "\n" for line in lines))
        path.chmod(0o600)  # expectations hold a password

    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        path = self.home / "standin.counts"
        data = path.read_bytes() if path.exists() else b""
        data = data.ljust(2 * _COUNTS.size, b"\0")
        names = (*CALLS, *OTHERS, TOTAL)
        calls, hits = (dict(zip(names, _COUNTS.unpack_from(data, at), strict=True)) for at in (0, _COUNTS.size))
        for numbers in (calls, hits):
            for name in OTHERS:  # of these only the ones that were called
                if not numbers[name]:
                    del numbers[name]
        return calls, hits

"""A drill's evidence: a folder with the verdict, what the machine said and showed, and their hashes; never overwrites.

docs/operations.md, "Drills". verdict.json is written last, so a folder without it is of a drill that was interrupted.
"""

from __future__ import annotations

import datetime
import hashlib
import platform
import secrets
from pathlib import Path
from typing import Any

import msgspec

from warmspare.errors import ConfigError
from warmspare.model.ids import PointId, VmId
from warmspare.model.keyparts import encode_name
from warmspare.outside import records
from warmspare.outside.regular_files import demand_folders, open_file
from warmspare.state.local_files import local_io, write_atomic
from warmspare.version import __version__

WHAT = "the drill's folder"
VERDICT = "verdict.json"
SERIAL, SCREEN, FIRMWARE, QEMU = "serial.log", "screenshot.png", "firmware.log", "qemu.log"
EC2_SCREEN = "screenshot.jpg"
FILES = (SERIAL, SCREEN, EC2_SCREEN, FIRMWARE, QEMU)


class DrillVerdict(msgspec.Struct, frozen=True):
    """What verdict.json holds. passed: it boots. reason: why, as a clause.

    boot_seconds: from power-on to the moment it was judged up, null where it was not. seconds: of the whole drill.
    judged_by: serial, agent, status checks, or two of them. point: sequence, label, SHA-256 and time of the restore
    point that was judged. untouched: the replica was not written to; null where there is none. disks: each with its
    root at that point and its traces before and after: of a replica size, times and allocation, of a restore point how
    many blocks were put together, each proved by its hash; in EC2 its EBS snapshot. files: SHA-256 and bytes of the
    rest.
    """

    format: int
    passed: bool
    reason: str
    vm: VmId
    vm_name: str
    repository: str
    uri: str
    point: dict[str, Any]
    began: str
    seconds: float
    boot_seconds: float | None
    timeout_seconds: float
    judged_by: str
    expected: str | None
    guest: dict[str, Any]
    untouched: bool | None
    disks: list[dict[str, Any]]
    machine: dict[str, Any]
    notes: list[str]
    software: dict[str, str]
    files: dict[str, dict[str, Any]]


def make_folder(root: Path, called: str, given: Path | None) -> Path:
    """A fresh folder: the given one, or one below `root` by what the VM is called and the time. ConfigError if it holds
    something."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = given or root / encode_name(called) / f"{now}-{secrets.token_hex(3)}"
    with local_io(WHAT, folder):
        if given is None:
            demand_folders(root, folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    demand_empty(folder)
    return folder.resolve()


def demand_empty(folder: Path) -> None:
    """ConfigError unless nothing is in that folder, or there is none. StoreError."""
    with local_io(WHAT, folder):
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError("the folder for the evidence is not empty", where=str(folder), hint="give another one")


def point_fields(at: PointId, created: str | None) -> dict[str, Any]:
    """The restore point as a verdict has it. created: None where its record could not be read."""
    return {"sequence": at.sequence, "label": at.label, "sha256": at.sha256, "created": created}


def files(folder: Path) -> dict[str, dict[str, Any]]:
    """The evidence's files that are there, with their sizes and hashes."""
    out: dict[str, dict[str, Any]] = {}
    with local_io(WHAT, folder):
        for name in FILES:
            path = folder / name
            if path.exists():
                out[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    return out


def verdict_digest(folder: Path) -> str:
    """SHA-256 of a drill's verdict; "" where there is none."""
    path = folder / VERDICT
    with local_io(WHAT, path):
        return _digest(path) if path.exists() else ""


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def software(**others: str) -> dict[str, str]:
    """Versions of what took part. others: besides this program and what it runs on."""
    return {"warmspare": __version__, "python": platform.python_version(), "kernel": platform.release(), **others}


def write_verdict(folder: Path, verdict: DrillVerdict) -> None:
    """Durably; the hash of it all is up to whoever keeps the folder."""
    write_atomic(folder / VERDICT, records.encode(verdict) + b"\n", WHAT)

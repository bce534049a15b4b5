"""Looks whether a VDDK can be used, before the first run depends on it; owns the checks, refuses to print them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmspare.errors import ConfigError
from warmspare.observe.events import Events
from warmspare.source.vddk import vddk_install
from warmspare.source.vddk.vddk_errors import ReaderError
from warmspare.source.vddk.vddk_session import VddkSession, VddkSettings, VddkTarget

# What a library without it can't do, and what we do then.
WITHOUT = {
    "VixDiskLib_ReadAsync": "reads go one at a time: slow over a network",
    "VixDiskLib_Wait": "reads go one at a time: slow over a network",
    "VixDiskLib_QueryAllocatedBlocks": "a first sync reads unallocated areas too",
    "VixDiskLib_FreeBlockList": "a first sync reads unallocated areas too",
}
NETWORK_MODES = ("nbdssl", "nbd")


@dataclass(frozen=True, slots=True)
class Check:
    """state: ok, note (works, with a drawback) or wrong (can't be used). found: what there is. meaning: and so what."""

    name: str
    state: str
    found: str
    meaning: str = ""


async def examine(directory: Path, config: Path | None = None) -> list[Check]:
    """Every check of a VDDK directory, as far as they get; a wrong one ends it."""
    try:
        install = vddk_install.find(directory)
    except ConfigError as error:
        return [Check("library", "wrong", error.what, error.hint)]
    size = install.library.stat().st_size
    checks = [
        Check("library", "ok", f"{install.library} ({size / 2**20:.1f} MiB)"),
        _version(install),
    ]
    session = VddkSession(install, VddkTarget(), VddkSettings(attempts=1, config=config), Events())
    try:
        process = await session.process()
        checks.append(_symbols(session.missing))
        checks.append(_modes(session.modes))
        checks.append(Check("reader process", "ok", f"process {process.pid}, InitEx done"))
    except ConfigError as error:
        return [*checks, Check("symbols", "wrong", error.what, error.hint)]
    except (ReaderError, OSError) as error:
        return [*checks, Check("reader process", "wrong", str(error), "the library does not start on this machine")]
    finally:
        await session.close()
    checks.append(_clashes(install))
    return checks


def _version(install: vddk_install.Install) -> Check:
    if not install.version:
        return Check("version", "note", "unknown", "its name has none")
    if install.newer:
        newest = ".".join(map(str, vddk_install.NEWEST))
        return Check("version", "note", install.version, f"newer than {newest}, the newest that is known here")
    return Check("version", "ok", install.version)


def _symbols(missing: list[str]) -> Check:
    drawbacks = sorted({WITHOUT[name] for name in missing if name in WITHOUT})
    if not drawbacks:
        return Check("symbols", "ok", "all that are needed")
    lacking = ", ".join(name.removeprefix("VixDiskLib_") for name in missing if name in WITHOUT)
    return Check("symbols", "note", f"without {lacking}", "; ".join(drawbacks))


def _modes(modes: str | None) -> Check:
    if not modes:
        return Check("transport modes", "wrong", "none", "the library offers no way to read a disk")
    missing = [mode for mode in NETWORK_MODES if mode not in modes.split(":")]
    if missing:
        return Check("transport modes", "note", modes, f"without {' and '.join(missing)} nothing is read by network")
    return Check("transport modes", "ok", modes)


def _clashes(install: vddk_install.Install) -> Check:
    names = vddk_install.shared_libraries(install)
    if not names:
        return Check("clashing libraries", "ok", "none beside it")
    kept_apart = "Python may have others of these; only the reader process loads them"
    return Check("clashing libraries", "ok", ", ".join(names), kept_apart)

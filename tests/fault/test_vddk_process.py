"""The reader process: it ends with its client, keeps secrets to itself, and refuses what is no VDDK."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

import warmspare
from fault.vddk_bench import Bench, read_all
from fault.vddk_campaign import PASSWORD, SETTINGS, TARGET, children
from rig import MIB, VddkRig, command, random_disk, same
from warmspare.errors import ConfigError, SourceError
from warmspare.observe.events import Events
from warmspare.source.vddk import vddk_host, vddk_install
from warmspare.source.vddk.vddk_process import ReaderProcess
from warmspare.source.vddk.vddk_session import VddkSession


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def reader_of(parent: int, within_s: float = 20.0) -> int:
    """The reader process that `parent` has started."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                line = (path / "cmdline").read_bytes()
                owner = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if owner == parent and b"vddk_host" in line:
                return int(path.name)
        time.sleep(0.02)
    raise AssertionError("no reader process was started")


def gone(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def started(rig: VddkRig) -> subprocess.Popen[bytes]:
    arguments = ["sync", f"disk=vddk://{rig.disk}", "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *rig.more]
    arguments += rig.new()
    rig.standin.disk(str(rig.disk), rig.disk)
    return subprocess.Popen(
        [sys.executable, "-m", "warmspare", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("script", ["latency 50", "at ReadAsync 5 hang\nfrom Close 1 hang"], ids=["busy", "stuck"])
def test_a_killed_sender_takes_its_reader_with_it(tmp_path: Path, script: str) -> None:
    rig = VddkRig(tmp_path)
    random_disk(rig.disk, 60 * MIB, random.Random(2), pieces=200)
    rig.standin.script(script)
    sender = started(rig)
    reader = reader_of(sender.pid)
    time.sleep(0.5)
    sender.kill()
    sender.communicate()
    assert gone(reader, vddk_host.GRACE_MS / 1000 + 3), "the reader outlives its client"
    rig.standin.script("")
    rig.sync(disks=[f"disk={rig.disk}"])
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_an_interrupted_sender_closes_what_it_opened(tmp_path: Path) -> None:
    rig = VddkRig(tmp_path)
    random_disk(rig.disk, 60 * MIB, random.Random(3), pieces=200)
    rig.standin.script("latency 50")
    sender = started(rig)
    reader = reader_of(sender.pid)
    while rig.standin.counts()["ReadAsync"] < 10:
        time.sleep(0.02)
    sender.send_signal(signal.SIGINT)
    _, said = sender.communicate(timeout=30)
    assert sender.returncode == 130 and b"run the same command again" in said
    assert gone(reader, 1.0)
    counts = rig.standin.counts()
    assert counts["Open"] == counts["Close"] and counts["Exit"] == counts["InitEx"] == 1
    rig.standin.check()


def test_nothing_gives_a_pipe_to_the_event_loop() -> None:
    """uvloop closes a pipe's descriptor twice, and another thread's file may have the number by then: `sync --all`
    failed so once in two hundred runs. Sockets it lets go of properly."""
    source = Path(warmspare.__file__).parent
    asked = [path.name for path in source.rglob("*.py") if re.search(r"connect_(read|write)_pipe", path.read_text())]
    assert not asked


async def test_secrets_stay_in_the_pipe(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "an-aws-secret")
    bench.standin.script(f"latency 20\nlog warn login with {PASSWORD}\nfrom ReadAsync 30 fail 14009")
    seen: list[bytes] = []

    async def look(number: int) -> None:
        (reader,) = children()
        for name in ("cmdline", "environ"):
            seen.append((Path("/proc") / str(reader) / name).read_bytes())
        assert "0" in (Path("/proc") / str(reader) / "limits").read_text().split("Max core file size")[1].split()[0]
        maps = (Path("/proc") / str(reader) / "maps").read_text()
        assert "libcrypto" not in maps and "libssl" not in maps, "what Python loaded would clash with a VDDK's own"

    with pytest.raises(SourceError) as caught:
        async with bench.source() as source:
            await read_all(source, look)
    assert len(seen) > 10
    everything = b"\0".join(seen) + repr((bench.events, str(caught.value), TARGET)).encode()
    assert b"LD_LIBRARY_PATH" in everything and b"vddk_host" in everything
    assert PASSWORD.encode() not in everything and b"an-aws-secret" not in everything
    assert PASSWORD not in "".join(bench.standin.breaches())


async def test_a_panics_last_words_are_told_without_secrets(bench: Bench) -> None:
    bench.standin.script(f"from Open 1 panic the key was {PASSWORD}")
    with pytest.raises(SourceError, match=r"panicked and its process ended: .*the key was \*\*\*"):
        async with bench.source():
            pass


def test_a_reader_says_no_to_nonsense(tmp_path: Path) -> None:
    """Requests that no client of ours makes end it, with a traceback and no answer."""
    done = subprocess.run(
        [sys.executable, "-m", "warmspare.source.vddk.vddk_host", "0", "0", "0", "0", "0"],
        input=b'{"op": "__class__"}\n',
        capture_output=True,
        timeout=30,
    )
    assert done.returncode != 0


# -- directories that are no VDDK ------------------------------------------------------------------------------------


def test_a_missing_or_broken_vddk(tmp_path: Path) -> None:
    def refused(directory: Path, match: str) -> None:
        with pytest.raises(ConfigError, match=match) as caught:
            vddk_install.find(directory)
        assert "developer portal" in caught.value.hint and "lib64" in caught.value.hint

    refused(tmp_path / "none", "no such directory")
    refused(tmp_path, "no lib64/libvixDiskLib.so")
    lib = tmp_path / "lib64"
    lib.mkdir()
    (lib / "libvixDiskLib.so").symlink_to("libvixDiskLib.so.8")
    refused(tmp_path, "incomplete")
    real = lib / "libvixDiskLib.so.8"
    real.write_bytes(b"no library at all, but long enough")
    refused(tmp_path, "damaged")
    real.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00" + bytes(100))
    refused(tmp_path, "another processor: aarch64")
    real.write_bytes(b"\x7fELF\x01\x01" + bytes(12) + b"\x03\x00" + bytes(100))
    refused(tmp_path, "another processor: i386")


@pytest.mark.parametrize("what", ["truncated", "incomplete"])
def test_a_library_that_does_not_load(tmp_path: Path, what: str) -> None:
    rig = VddkRig(tmp_path)
    random_disk(rig.disk, MIB, random.Random(4))
    library = rig.standin.library.resolve()
    if what == "truncated":
        library.write_bytes(library.read_bytes()[:5000])
    else:
        source = tmp_path / "empty.c"
        source.write_text("int VixDiskLib_InitEx(void) { return 0; }\n")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    refused = rig.sync(code=2)
    assert ("can't be loaded" if what == "truncated" else "lacks VixDiskLib_Exit") in refused.stderr
    assert "developer portal" in refused.stderr
    assert not (tmp_path / "repo" / "vms").exists()


@pytest.mark.parametrize(("disk", "more"), [("vddk:///x", []), ("vddk://x", ["--vddk", "/"])])
def test_usage(tmp_path: Path, disk: str, more: list[str]) -> None:
    assert command("sync", disk, "--vm", "v", "--repo", tmp_path / "r", *more).code == 2


async def test_a_start_given_up_takes_nothing_from_under_the_library(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings file that InitEx reads stays for as long as a reader that was asked to read it lives."""
    session = VddkSession(vddk_install.find(bench.standin.home), TARGET, SETTINGS, Events())
    call, asked = ReaderProcess.call, asyncio.Event()

    async def slow(self: ReaderProcess, operation: str, **fields: Any) -> dict[str, Any]:
        if operation == "init":
            os.kill(reader_of(os.getpid()), signal.SIGSTOP)
            asked.set()
        return await call(self, operation, **fields)

    monkeypatch.setattr(ReaderProcess, "call", slow)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    starting = asyncio.create_task(session.process())
    await asked.wait()
    await asyncio.sleep(0.1)
    starting.cancel()
    await asyncio.wait({starting})
    os.kill(reader_of(os.getpid()), signal.SIGCONT)
    await session.close()
    assert not children()
    bench.standin.check()
    assert not list(tmp_path.glob("warmspare-vddk-*.conf"))

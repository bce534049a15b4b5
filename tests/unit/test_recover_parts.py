"""Parts of drills and of the readiness check: signs, the guest agent's channel, hardware, archives, configurations."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import json
import lzma
import random
import socket
import struct
import subprocess
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

from warmspare.errors import ConfigError, FormatError, RecoverError
from warmspare.observe.events import Events
from warmspare.recover.disks import programs
from warmspare.recover.disks.confined import Spent
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.drills.qemu import guest_agent, hardware, qemu_drill, qemu_process
from warmspare.recover.drills.qemu.hardware import Hardware
from warmspare.recover.drills.rules import Rules
from warmspare.recover.drills.signs import FAILURES, Watch
from warmspare.recover.drills.turn import ALONE
from warmspare.recover.readiness.guest.volumes import Volumes
from warmspare.recover.readiness.kernels import initramfs

# signs


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_a_text_is_seen_however_it_is_cut_and_drawn(piece: int) -> None:
    data = b"noise\r\n" * 50 + b"\x1b[2J\x1b[01;01Hhost \x1b[1mlogin:\x1b[0m "
    watch = Watch("host login:")
    for at in range(0, len(data), piece):
        watch.feed(data[at : at + piece])
    assert watch.seen and not watch.failure and watch.line == "host login:"


@pytest.mark.parametrize("sign", FAILURES, ids=lambda sign: sign.text.decode())
def test_each_sign_of_failure_is_seen(sign: object) -> None:
    watch = Watch("login:")
    text = sign.text  # type: ignore[attr-defined]
    for byte in b"[    1.2] " + text + b" what follows\r\n":
        watch.feed(bytes([byte]))
    assert watch.failure is not None and watch.failure.text == text and not watch.seen


def test_the_first_sign_counts_and_nothing_is_wanted_of_firmware() -> None:
    watch = Watch(None)
    watch.feed(b"Gave up waiting for root file system\n(initramfs) login: \nlast\n\n")
    assert watch.failure and watch.failure.text == b"Gave up waiting for root" and not watch.seen
    assert watch.line == "last"


# the guest agent


async def _guest(end: socket.socket, answers: Callable[[dict[str, object]], list[bytes]], silent: int) -> None:
    """Plays a guest's agent: silent for so many questions, then it answers."""
    loop, data = asyncio.get_running_loop(), b""
    while True:
        data += await loop.sock_recv(end, 4096)
        while b"\n" in data:
            line, _, data = data.partition(b"\n")
            silent -= 1
            if silent < 0:
                for each in answers(json.loads(line.lstrip(b"\xff"))):
                    await loop.sock_sendall(end, each)


async def _asked(answers: Callable[[dict[str, object]], list[bytes]], silent: int = 0) -> dict[str, object]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        guest = asyncio.create_task(_guest(right, answers, silent))
        try:
            async with asyncio.timeout(30):
                return await guest_agent.answer(left)
        finally:
            guest.cancel()
            await asyncio.gather(guest, return_exceptions=True)


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def test_an_agent_that_answers_late_with_old_answers_and_nonsense_before_it() -> None:
    def answers(question: dict[str, object]) -> list[bytes]:
        if question["execute"] == "guest-sync":
            number = question["arguments"]["id"]  # type: ignore[index]
            return [b"half a li", b"ne\n\xff", _line({"return": 7}), _line([1]), _line({"return": number})]
        return [_line({"return": {"id": "debian"}})]

    assert await _asked(answers, silent=2) == {"id": "debian"}


async def test_an_agent_without_osinfo_has_answered_too() -> None:
    def answers(question: dict[str, object]) -> list[bytes]:
        if question["execute"] == "guest-sync":
            return [_line({"return": question["arguments"]["id"]})]  # type: ignore[index]
        return [_line({"error": {"class": "CommandNotFound"}})]

    assert await _asked(answers) == {}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"id": "x" * 5000, "pretty-name": "Debian"}, {"id": "x" * 200, "pretty-name": "Debian"}),
        ({"id": "a\ud800b", "version": ["1"], "name": 5}, {"id": "a?b"}),
        ({f"{number}": "x" for number in range(500)}, {f"{number}": "x" for number in range(32)}),
    ],
)
async def test_what_an_agent_says_is_bounded(said: dict[str, object], kept: dict[str, str]) -> None:
    def answers(question: dict[str, object]) -> list[bytes]:
        if question["execute"] == "guest-sync":
            deep = b"[" * 50_000 + b"\n"  # deeper than the parser goes
            return [deep, b"9" * 50_000 + b"\n", _line({"return": question["arguments"]["id"]})]  # type: ignore[index]
        return [_line({"return": said})]

    assert await _asked(answers) == kept


@pytest.mark.long
async def test_a_guest_that_floods_the_channel_is_no_agent() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)

        async def flood() -> None:
            while True:
                await asyncio.get_running_loop().sock_sendall(right, b"x" * 65536)

        flooding = asyncio.create_task(flood())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await guest_agent.answer(left)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


# hardware


def test_the_machine_is_the_vm_as_far_as_this_host_goes() -> None:
    vm = {"firmware": "efi", "cpus": 64, "memory_mib": 1 << 30, "secure_boot": True}
    got = hardware.choose(vm, "bios", 1)
    assert (got.firmware, got.firmware_by, got.controller) == ("uefi", "restore point", "nvme")
    assert 1 <= got.cpus <= hardware.MOST_CPUS and got.memory_mib < 1 << 30
    for word in ("secure boot", "half of what is free"):
        assert any(word in note for note in got.notes)
    assert hardware.choose({}, "uefi", 1).firmware_by == "partition table"
    odd = hardware.choose({"firmware": "quantum"}, "uefi", 1)
    assert (odd.firmware, odd.firmware_by) == ("uefi", "partition table") and "'quantum'" in odd.notes[0]
    other = hardware.choose(vm, "uefi", 1, firmware="bios", controller="pvscsi", memory_mib=512)
    assert (other.firmware, other.memory_mib, other.controller) == ("bios", 512, "pvscsi")
    assert "the VM's firmware is uefi" in other.notes
    for wrong in ({"firmware": "efi"}, {"controller": "floppy"}, {"memory_mib": 1}):
        with pytest.raises(ConfigError):
            hardware.choose(vm, "bios", 1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="takes 4 disks"):
        hardware.choose({"firmware": "bios"}, "bios", 5, controller="ide")


# the accelerator

_BIOS = Hardware("bios", "option", "nvme", 1, 256)


@pytest.mark.program
@pytest.mark.parametrize("how", ["at once", "on the way"])
async def test_an_accelerator_that_fails_is_gone_without(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried = []

    async def boot(_: object, __: object, accelerator: str, *___: object) -> object:
        tried.append(accelerator)
        if accelerator == "kvm" and how == "at once":
            raise ExceptionGroup("of a task group", [RecoverError("QEMU ended")])
        return qemu_drill._QemuOutcome(
            accelerator == "tcg", qemu_process.INTERNAL_ERROR if accelerator == "kvm" else "up"
        )

    monkeypatch.setattr(qemu_process, "accelerators", lambda firmware: ["kvm", "tcg"])
    monkeypatch.setattr(qemu_drill, "_boot", boot)
    notes: list[str] = []
    got = await qemu_drill._judged(_BIOS, [], Rules(), tmp_path, notes, "vm", Events(), ALONE)
    assert (
        got.passed
        and tried == ["kvm", "tcg"]
        and notes == ["kvm does not work on this host; the machine was started again with tcg"]
    )


def test_how_a_drill_judges() -> None:
    assert Rules().judged_by == "serial or agent"
    assert Rules(expect="x", by_agent=True).judged_by == "serial and agent"
    assert Rules(by_agent=True).judged_by == "agent" and Rules(expect="x").judged_by == "serial"


# programs


@pytest.mark.program
def test_a_program_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.PACKAGES, "python3", "python3")
    done = programs.run("python3", "-c", "print('x' * 100000)", output_bytes=1000)
    assert (len(done.output), done.cut, done.code) == (1000, True, 0)
    endless = programs.run("yes", output_bytes=1000)
    assert (len(endless.output), endless.cut) == (1000, True)
    hungry = programs.run("python3", "-c", "bytearray(2 << 30)")
    assert hungry.code != 0 and "MemoryError" in hungry.complaint
    with pytest.raises(Exceeded, match="wants more than the 1024 MiB"):
        programs.run("python3", "-c", "import sys; sys.exit('error: out of memory')")
    with pytest.raises(Exceeded, match="died of signal 11"):
        programs.run("python3", "-c", "import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr(programs, "CPU_S", 1)
    with pytest.raises(Exceeded, match="used up the 1 s of CPU"):
        programs.run("python3", "-c", "while True: pass")
    budget = programs.Budget(cpu_s=0.01)
    with pytest.raises(Spent, match="of CPU that the programs of a check may take"):  # what a start takes is enough
        for _ in range(100):
            programs.run("python3", "-c", "pass", budget=budget)
    monkeypatch.setattr(programs, "TIMEOUT_S", 0.5)
    with pytest.raises(Exceeded, match="was ended after"):
        programs.run("sleep", "60")
    with pytest.raises(ConfigError, match="is not installed"):
        programs.run("no-such-program")


# initramfs


def _archive(names: list[str], content: bytes = b"content") -> bytes:
    """A newc archive, written by hand."""
    out = bytearray()
    for name in [*names, "TRAILER!!!"]:
        data = b"" if name == "TRAILER!!!" else content
        fields = [0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % 512)


def _lz4_legacy(data: bytes) -> bytes:
    out = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[at : at + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": _lz4_legacy,
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_names_in_an_initramfs(packing: str) -> None:
    early = _archive(["kernel/x86/microcode/GenuineIntel.bin"], b"m" * 5000)
    main = _archive(["./init", "usr/lib/modules/6/kernel/drivers/nvme/host/nvme.ko.xz"], bytes(9 << 20))
    second = _archive(["etc/late"])
    file = io.BytesIO(early + bytes(512) + PACKINGS[packing](main + second))
    assert list(initramfs.names(file, "x")) == [
        "kernel/x86/microcode/GenuineIntel.bin",
        "init",
        "usr/lib/modules/6/kernel/drivers/nvme/host/nvme.ko.xz",
        "etc/late",
    ]


@pytest.mark.program
def test_an_archive_of_cpio_itself() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "bb", "ccc"):
            (Path(folder) / name).write_text(name * 3)
        command = ["cpio", "--quiet", "-o", "-H", "newc"]
        made = subprocess.run(command, cwd=folder, input=b"a\nbb\nccc", capture_output=True)
    assert list(initramfs.names(io.BytesIO(made.stdout), "x")) == ["a", "bb", "ccc"]


def test_damage_of_an_initramfs_is_told_and_nothing_else() -> None:
    packed = [packing(_archive(["init", "lib/modules/6/nvme.ko"])) for packing in PACKINGS.values()]
    rng = random.Random(7)
    for _ in range(1500):
        data = bytearray(rng.choice(packed))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        del data[rng.randrange(1, len(data) + 1) :]
        try:
            for name in initramfs.names(io.BytesIO(bytes(data)), "x"):
                assert len(name) <= initramfs.MAX_NAME_BYTES
        except FormatError as error:
            assert "initramfs" in error.what
    for nonsense in (b"nonsense", b"070701" + b"z" * 200, _archive(["x"])[:130]):
        with pytest.raises(FormatError):
            list(initramfs.names(io.BytesIO(nonsense), "x"))
    assert list(initramfs.names(io.BytesIO(bytes(1024)), "x")) == []


def test_numbers_of_cpio_are_eight_hex_digits() -> None:
    """int() would take a sign, spaces and underscores as well; of a negative size all of the rest would be read."""
    plain = _archive(["init"])
    for odd in (b"-0000001", b"+0000001", b" 0000001", b"0x000001", b"0_0_0_01", b"0000000\xb2"):
        with pytest.raises(FormatError, match="is no number"):
            list(initramfs.names(io.BytesIO(plain[:54] + odd + plain[62:]), "x"))
        with pytest.raises(FormatError, match="is no number"):
            list(initramfs.names(io.BytesIO(plain[:94] + odd + plain[102:]), "x"))


@pytest.mark.parametrize("packing", ["lzma", "xz", "zstd"])
def test_a_dictionary_is_bounded_whatever_a_header_states(packing: str) -> None:
    """As large as Linux gives it is fine. A larger one is refused before anything is set aside for it."""
    limit = initramfs.MAX_DICTIONARY_BYTES

    def stated(size: int) -> io.BytesIO:
        data = _archive(["init"])
        if packing == "zstd":
            parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=size.bit_length() - 1)
            stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            return io.BytesIO(stream.compress(data) + stream.flush())
        if packing == "xz":  # a byte of the block's header, behind its checksum
            filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 16}]
            out = bytearray(lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters))
            length = (out[12] + 1) * 4
            assert out[14:16] == b"\x21\x01"
            out[16] = 2 * (size.bit_length() - 1 - 12)
            out[12 + length - 4 : 12 + length] = zlib.crc32(out[12 : 12 + length - 4]).to_bytes(4, "little")
            return io.BytesIO(bytes(out))
        out = bytearray(lzma.compress(data, format=lzma.FORMAT_ALONE, preset=0))
        out[1:5] = struct.pack("<I", min(size, (1 << 32) - 1))
        return io.BytesIO(bytes(out))

    assert list(initramfs.names(stated(limit), "x")) == ["init"]
    for size in (limit * 2, limit * 8):
        tracemalloc.start()
        with pytest.raises(FormatError, match="can't be read"):
            list(initramfs.names(stated(size), "x"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()


def test_a_label_is_no_line_of_grubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels may hold line ends, and then what looks like devices that there are not."""
    lines = (
        "Device loop0: No known filesystem detected - Total size 1KiB\n"
        "\tPartition loop0,msdos1: Filesystem type btrfs - Label `a\n"
        "Device loop9,msdos1: Filesystem type ext2, UUID 1\nDevice loop0,x)(host: Filesystem type ext2\n"
        "Device host: Filesystem type hostfs\nDevice loop\u00b2: Filesystem type ext2\n', UUID 2\n"
        "Device lvm/vg-root: Filesystem type xfs, UUID 3\n"
    )
    monkeypatch.setattr(programs, "run", lambda *_, **__: programs.Done(0, lines.encode(), ""))
    every = Volumes([HeldDisk("d", Path("d"), 1 << 20, 0)], programs.Budget()).all()
    assert [each.device for each in every] == ["loop0", "loop0,msdos1", "lvm/vg-root"]


def test_an_initramfs_that_swells_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(FormatError, match="unpacks to more than"):
        list(initramfs.names(io.BytesIO(gzip.compress(_archive(["x"], bytes(2 << 20)))), "x"))
    monkeypatch.setattr(initramfs, "MAX_NAMES_BYTES", 1 << 16)
    with pytest.raises(FormatError, match="names files by more than"):
        list(initramfs.names(io.BytesIO(gzip.compress(_archive([f"{n:04000}" for n in range(99)], b""))), "x"))
    monkeypatch.setattr(initramfs, "MAX_NAMES", 3)
    with pytest.raises(FormatError, match="more than 3 files"):
        list(initramfs.names(io.BytesIO(_archive([f"f{number}" for number in range(5)])), "x"))


@pytest.mark.parametrize(
    ("firmware", "virtual", "first"), [("bios", True, "tcg"), ("bios", False, "kvm"), ("uefi", True, "kvm")]
)
def test_kvm_in_a_virtual_machine_is_not_trusted_with_a_bios(
    monkeypatch: pytest.MonkeyPatch, firmware: str, virtual: bool, first: str
) -> None:
    monkeypatch.setattr(qemu_process.os, "access", lambda path, mode: True)
    monkeypatch.setattr(qemu_process, "_is_virtual", lambda: virtual)
    assert qemu_process.accelerators(firmware)[0] == first
    assert qemu_process.accelerators(firmware)[-1] == "tcg"

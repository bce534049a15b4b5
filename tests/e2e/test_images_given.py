"""An image file given in place of a disk's bytes begins no chain, unless that is meant."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from rig import MIB, Rig, command, made, random_disk, same


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    random_disk(rig.disk, 4 * MIB, random.Random(1))
    return rig


def image(rig: Rig, form: str, *options: str) -> Path:
    path = rig.home / f"image.{form}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, *options, rig.disk, path], check=True)
    return path


@pytest.mark.parametrize(
    ("form", "options", "what"),
    [
        ("qcow2", (), "a qcow2 image"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "a VMDK (streamOptimized)"),
        ("vmdk", ("-o", "subformat=monolithicFlat"), "'image-flat.vmdk'"),
        ("vpc", ("-o", "subformat=fixed"), "-f vpc -O raw"),
    ],
)
def test_an_image_file_begins_no_chain(form: str, options: tuple[str, ...], what: str, rig: Rig) -> None:
    path = image(rig, form, *options)
    made(rig.repo)
    before = rig.snapshot()
    for verb in ("plan", "sync"):
        outcome = command(verb, path, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--new")
        message = outcome.last("error")["message"]
        assert outcome.code == 2 and what in message and str(path) in message and "--as-raw" in message
        assert rig.snapshot() == before
    outcome = command("sync", path, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)
    assert outcome.code == 2 and "--new" in outcome.last("error")["message"]  # nothing has begun
    rig.sync()


def test_one_image_among_disks_is_named(rig: Rig) -> None:
    path = image(rig, "qcow2")
    outcome = rig.sync(disks=[rig.disk, f"data={path}"], code=2)
    assert "disk 'data' is a qcow2 image" in outcome.last("error")["message"]
    rig.sync()
    outcome = rig.sync(disks=[rig.disk, f"data={path}"], code=2)  # new to a chain that has begun
    assert "disk 'data' is a qcow2 image" in outcome.last("error")["message"]


def test_a_disk_that_really_holds_an_image_is_taken_as_it_is(rig: Rig) -> None:
    path = image(rig, "qcow2")
    assert not rig.sync("--as-raw", disks=[path]).all("source.warning")
    rig.apply()
    assert same(path, rig.replica)
    (warning,) = rig.sync(disks=[path]).all("source.warning")
    assert "a qcow2 image" in warning["message"] and "--as-raw" in warning["message"]
    assert not rig.sync("--as-raw", disks=[path]).all("source.warning")


def test_what_a_guest_writes_to_its_disk_stops_no_chain(rig: Rig) -> None:
    rig.sync()
    data = image(rig, "qcow2").read_bytes()
    with rig.disk.open("r+b") as file:
        file.write(data[: 3 * MIB])
    (warning,) = rig.sync().all("source.warning")
    assert "a qcow2 image" in warning["message"]
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_as_raw_goes_with_disks(rig: Rig) -> None:
    outcome = command("sync", "--as-raw", "--vm", "x")
    assert outcome.code == 2 and "--as-raw" in outcome.last("error")["message"]

"""The two halves of the fake site together: what vCenter reports as changed, read through VDDK at the snapshot, makes
of the disk as it was the disk as it is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from fakesite import Site
from rig import KIB, MIB
from rigs.sites.fakevm import FakeVm
from standin import Standin
from vcenter.vimclient import Client
from warmspare.model.extents import Extents, normalise
from warmspare.observe.events import Events
from warmspare.source.vddk import vddk_install
from warmspare.source.vddk.vddk_session import VddkSettings, VddkTarget
from warmspare.source.vddk.vddk_source import VddkSource

BLOCK = 64 * KIB


async def read_into(copy: Path, site: Site, standin: Standin, vm: FakeVm, snapshot: Any, key: int, at: Extents) -> None:
    """Read extents of a snapshot's disk through VDDK into a copy of the disk."""
    target = VddkTarget(
        server=site.host,
        port=site.port,
        vm=vm.moref,
        snapshot=snapshot._moId,
        user=site.user,
        password=site.password,
        thumbprint=site.thumbprint_sha1,
        transports="nbdssl",
    )
    path = Client.disks(snapshot)[key].backing.fileName
    install = vddk_install.find(standin.home)
    source = await VddkSource.open(install, target, path, str(key), settings=VddkSettings(), events=Events())
    with copy.open("r+b") as file:
        async for span in source.read(at):
            at_byte = 0
            for block in span.blocks.tolist():
                data = span.data[at_byte : at_byte + BLOCK]
                file.seek(block * BLOCK)
                file.write(data)
                at_byte += len(data)
            span.release()
    await source.close()


async def test_changes_read_through_vddk_make_the_disk(tmp_path: Path) -> None:
    rng = random.Random(7)
    (tmp_path / "site").mkdir()
    standin = Standin(tmp_path / "vddk")
    with Site(tmp_path / "site", keep=True) as site:
        site.serve(standin)
        standin.expect(serverName=site.host, thumbPrint=site.thumbprint_sha1, userName=site.user)
        client = Client(site)
        vm = site.add_vm("db", [8 * MIB, 3 * MIB + 512])
        vm.foreign_snapshot()
        copies = {disk.key: tmp_path / f"copy-{disk.key}.raw" for disk in vm.disks}
        for disk in vm.disks:
            copies[disk.key].write_bytes(bytes(disk.capacity))
        change_ids = dict.fromkeys(copies, "*")
        for _ in range(3):
            vm.scribble(rng, pieces=8)
            snapshot = client.snapshot(vm)
            vm.scribble(rng, pieces=8)  # must not be seen
            for key, copy in copies.items():
                changed = client.areas(vm, snapshot, change_ids[key], key)
                extents = normalise([start for start, _ in changed], [length for _, length in changed])
                await read_into(copy, site, standin, vm, snapshot, key, extents)
                change_ids[key] = client.change_id(snapshot, key)
            client.remove(snapshot)
            for key, copy in copies.items():
                frozen = vm.frozen_file(snapshot._moId, vm.disks[key - 2000])
                assert copy.read_bytes() == frozen.read_bytes()
        standin.check()

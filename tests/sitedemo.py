"""The demo of a whole site: a VM with a real ext4 disk in a simulated vCenter, protected by name, again and again.

    python tests/sitedemo.py [--keep DIR]

vCenter is simulated (tests/vcenter), VDDK is a stand-in (ext/standin) over local images, change tracking is the fake
site's own at 64 KiB; everything else is the real thing, run as an operator runs it: the `warmspare` command with a
configuration file. `make demo` runs it where Go can be had, and `warmspare demo` on raw disks where it can't.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fakesite import Site
from rigs.host.hearing import all_heard
from rigs.sites import simulator
from rigs.sites.fakevm import FakeVm
from siterig import configuration
from standin import Standin
from warmspare.demo import demodisk
from warmspare.observe.quantities import size

CONTENT_BYTES = 160 << 20
DATABASE_BYTES = 64 << 20
MIB = 1 << 20
PAGE = 4 << 10
VM = """
[vm.dc02]
path = "/DC1/vm/prod/dc02"
"""


class Demo:
    """One run in one directory."""

    def __init__(self, home: Path, site: Site, standin: Standin, vm: FakeVm) -> None:
        self._home, self._site, self._vm = home, site, vm
        self._disk, self._replica = vm.disks[0].image, home / "replica.raw"
        self._scratch, self._vddk = home / "scratch.raw", standin.home
        self._console = Console(highlight=False)
        self._table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("MiB", "tracked", "read", "changed", "sent", "applied", "verified", "seconds"):
            self._table.add_column(name, justify="left" if name == "MiB" else "right", no_wrap=name == "MiB")
        self._tracked_bytes = self._sent_bytes = 0
        self._config = home / "warmspare.toml"
        self._config.write_text(configuration(home, site, standin) + VM)
        self._repository = home / "repo"

    def run(self) -> int:
        tools = demodisk.tools()
        self._say("$ warmspare doctor --vddk vddk")
        self._warmspare("doctor", "--vddk", self._vddk)
        for command in ("config check", "init", "vms"):
            self._say(f"$ warmspare {command} --config warmspare.toml")
            self._warmspare(*command.split(), "--config", self._config)
        self._say("$ warmspare sync --config warmspare.toml --vm dc02; warmspare apply --vm dc02 …    # each time")
        self._step("first sync", None)
        self._step("nothing changed", lambda: None)
        self._step("files upgraded", lambda: demodisk.upgrade(tools, self._home, self._scratch))
        self._step("database pages", lambda: demodisk.database(tools, self._scratch, writes=500))
        self._step("files removed", lambda: demodisk.remove(tools, self._scratch))
        self._console.print(self._table)
        self._say("$ warmspare points --repo repo")
        self._warmspare("points", "--repo", self._repository)
        sums = demodisk.digest(self._disk), demodisk.digest(self._replica)
        self._say(f"\nSHA-256 of the VM's disk  {sums[0]}")
        self._say(f"SHA-256 of the replica    {sums[1]}")
        if sums[0] != sums[1]:
            self._say("the replica is NOT identical: this is a bug, please report it")
            return 1
        self._say("identical, byte for byte; " + demodisk.check(tools, self._replica))
        left = self._site.state()[self._vm.moref]["snapshots"]
        times = self._tracked_bytes / self._sent_bytes
        self._say(
            f"since the first sync change tracking reported {size(self._tracked_bytes)}, and "
            f"{size(self._sent_bytes)} were sent: {times:.0f} times less; snapshots left on the VM: {len(left)}"
        )
        return 1 if left or not self._rots() else 0

    def _rots(self) -> bool:
        """A bit of the replica flips, unseen by any file system; an audit finds and heals it."""
        before = demodisk.digest(self._replica)
        with self._replica.open("r+b") as file:
            file.seek(self._replica.stat().st_size // 3)
            [byte] = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 0x10]))
        self._say("\none bit of the replica flips, as on a bad medium\n$ warmspare audit replica --vm dc02 … --repair")
        audit = ["audit", "replica", "--vm", "dc02", "--repo", self._repository, "--replica", self._replica]
        self._warmspare(*audit, "--repair", "--reports", self._home / "reports", code=5)
        healed = demodisk.digest(self._replica) == before
        self._say("identical again" if healed else "the replica is NOT healed: this is a bug, please report it")
        return healed

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)

    def _warmspare(self, *arguments: object, code: int = 0) -> None:
        """Run the command as an operator does; it must end with that exit code."""
        done = subprocess.run([sys.executable, "-m", "warmspare", *map(str, arguments)])
        if done.returncode != code:
            raise subprocess.CalledProcessError(done.returncode, list(map(str, arguments)))

    def _events(self, *arguments: object) -> dict[str, dict[str, Any]]:
        """Run the command with --json; its last event of each name."""
        done = subprocess.run(
            [sys.executable, "-m", "warmspare", *map(str, arguments), "--json"], check=True, stdout=subprocess.PIPE
        )
        return {event["event"]: event for event in all_heard(done.stdout)}

    def _step(self, title: str, change: Callable[[], None] | None) -> None:
        if change is not None:
            demodisk.copy(self._disk, self._scratch)
            change()
            self._write()
        began = time.monotonic()
        sent = self._events("sync", "--config", self._config, "--vm", "dc02")
        done = self._events("apply", "--vm", "dc02", "--repo", self._repository, "--to", self._replica)
        seconds = time.monotonic() - began
        sync, applied, tracked = sent["sync.done"], done["apply.done"], sent["disk.start"]["bytes_total"]
        if change is not None:
            self._tracked_bytes += tracked
            self._sent_bytes += sync["bytes_sent"]
        sizes = (tracked, sync["bytes_read"], sync["bytes_changed"], sync["bytes_sent"], applied["bytes_written"])
        verified = applied["blocks_verified"] / 16
        self._table.add_row(title, *(f"{count / MIB:.2f}" for count in sizes), f"{verified:.2f}", f"{seconds:.2f}")

    def _write(self) -> None:
        """The VM's guest writes what the scratch copy has and the disk has not: page by page, and tracked."""
        changed = demodisk.tracked(self._disk, self._scratch, PAGE)
        with self._scratch.open("rb") as file:
            for offset, length in changed.pairs():
                file.seek(offset)
                self._vm.write(0, offset, file.read(length))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave everything there")
    keep = options.parse_args().keep
    if missing := simulator.available():
        print(f"no simulated vCenter here, since {missing}: the demo goes without vSphere, on a raw disk")
        more = ["--keep", str(keep)] if keep else []
        return subprocess.run([sys.executable, "-m", "warmspare", "demo", *more]).returncode
    home = keep or Path(tempfile.mkdtemp(prefix="warmspare-demo-"))
    home.mkdir(parents=True, exist_ok=True)
    try:
        (home / "site").mkdir()
        image = home / "dc02.raw"
        print(f"building a real ext4 disk with mke2fs from this machine's files in {home} …")
        demodisk.build(demodisk.tools(), home, image, CONTENT_BYTES, DATABASE_BYTES)
        standin = Standin(home / "vddk")
        with Site(home / "site") as site:
            site.serve(standin)
            vm = site.add_vm("dc02", [], folder="prod", firmware="efi", memory_mib=8192)
            vm.add_disk(image.stat().st_size, image=image)
            print(f"vCenter is simulated at {site.host}:{site.port}, VDDK is a stand-in in {standin.home}\n")
            code = Demo(home, site, standin, vm).run()
        standin.check()
        return code
    finally:
        if keep is None:
            shutil.rmtree(home)


if __name__ == "__main__":
    sys.exit(main())

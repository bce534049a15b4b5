"""A whole world for tests of the vSphere side: a fake site, a VDDK, a configuration, and the real commands between."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fakesite import Site
from rig import KIB, Outcome, command, made, same
from rigs.sites.fakevm import FakeVm
from standin import Standin
from warmspare.format import restore_point
from warmspare.model.keyparts import encode_name
from warmspare.store import layout

CONFIG = """\
[vcenter.site]
host = "{host}"
port = {port}
user = "{user}"
password = {{file = "{home}/password"}}
thumbprint = "{thumbprint}"
vddk = "{vddk}"

[repository.spare]
uri = "{home}/repo"

[defaults]
state = "{home}/state"
"""


def configuration(home: Path, site: Site, standin: Standin, **changed: object) -> str:
    """What a configuration says of the site, and of a repository in `home`; [vm.NAME]s may follow. changed: of the
    vCenter. The password lies in a file of its own."""
    password = home / "password"
    password.write_text(site.password + "\n")
    password.chmod(0o600)
    settings = {"host": site.host, "port": site.port, "user": site.user, "thumbprint": site.thumbprint, **changed}
    return CONFIG.format(home=home, vddk=standin.home, **settings)


@dataclass
class SiteRig:
    """Make it with `site_rig`. VMs are added with `add`, which also tells the configuration of them."""

    home: Path
    site: Site
    standin: Standin
    vms: dict[str, FakeVm] = field(default_factory=dict)
    more: str = ""

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    @property
    def config(self) -> Path:
        return self.home / "warmspare.toml"

    def write_config(self, **changed: object) -> None:
        """What the configuration says: one [vm.NAME] for each VM, found by its path. changed: of the vCenter."""
        text = configuration(self.home, self.site, self.standin, **changed) + "level = 1\n"
        entries = [f'[vm.{name}]\npath = "/DC1/vm/{name}"\n' for name in self.vms]
        self.config.write_text("\n".join([text, self.more, *entries]))

    def add(self, name: str, disks: list[int], **fields: object) -> FakeVm:
        vm = self.vms[name] = self.site.add_vm(name, disks, **fields)
        self.write_config()
        return vm

    def sync(self, *names: str, code: int = 0, more: tuple[object, ...] = ()) -> Outcome:
        """Of these VMs, or --all."""
        chosen = [word for name in names for word in ("--vm", name)] or ["--all"]
        outcome = command("sync", "--config", self.config, *chosen, *more)
        assert outcome.code == code, outcome
        self.standin.check()
        return outcome

    def key(self, vm: FakeVm) -> str:
        return encode_name(str(vm.spec["instance_uuid"]))

    def sequences(self, vm: FakeVm) -> list[int]:
        folder = self.repo / "vms" / self.key(vm) / "points"
        return sorted(int(path.stem) for path in folder.glob("*.json")) if folder.exists() else []

    def point(self, vm: FakeVm, sequence: int = -1) -> restore_point.RestorePoint:
        """A restore point of a VM; the newest."""
        number = self.sequences(vm)[-1] if sequence < 0 else sequence
        path = self.repo / layout.point_key(self.key(vm), number)
        return restore_point.decode(path.read_bytes(), str(path))

    def check(self, vm: FakeVm, snapshot: str | None = None, at: int | None = None) -> None:
        """The replica, brought to the newest point (or `at`, from nothing), is the VM as a snapshot froze it."""
        frozen = snapshot or vm.taken[-1]
        target = self.home / "replicas" / (f"{vm.name}-{at}" if at else vm.name)
        target.parent.mkdir(exist_ok=True)
        record = self.point(vm, at or -1)
        options = ["--at", at] if at else []
        done = command("apply", "--vm", record.vm_id, "--repo", self.repo, "--to", target, *options)
        assert done.code == 0, done
        uuids = {disk.uuid: disk for disk in vm.disks}
        for disk in record.disks:
            file = target if len(record.disks) == 1 else target / disk.name
            assert same(vm.frozen_file(frozen, uuids[disk.id]), file), f"{vm.name}, {disk.name}, point {at or 'newest'}"
        if at:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            shutil.rmtree(f"{target}.warmspare", ignore_errors=True)

    def clean(self, vm: FakeVm) -> list[str]:
        """Snapshots there are on the VM."""
        return [str(found["snapshot"]) for found in self.site.state()[vm.moref]["snapshots"]]


@contextlib.contextmanager
def site_rig(home: Path, *, granularity: int = 64 * KIB, seed: int = 1) -> Iterator[SiteRig]:
    (home / "site").mkdir(parents=True)
    standin = Standin(home / "vddk")
    with Site(home / "site", granularity=granularity, keep=True, seed=seed) as site:
        site.serve(standin)
        rig = SiteRig(home, site, standin)
        made(rig.repo)
        yield rig

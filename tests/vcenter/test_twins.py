"""Two machines with one instance UUID, machines that moved, and new ones that look like known ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakesite import Site
from rig import MIB, Outcome, command, made, same
from rigs.host.hearing import all_heard
from rigs.sites.fakevm import FakeVm
from standin import Standin
from warmspare.cli.main import run
from warmspare.format import restore_point
from warmspare.model.keyparts import encode_name
from warmspare.repository.chain import Repository
from warmspare.source.identity import Identity
from warmspare.vsphere.api import session
from warmspare.vsphere.api.session import SessionPatience
from warmspare.vsphere.vsphere_machine import VsphereMachine

VCENTER = """\
[vcenter.{name}]
host = "{site.host}"
port = {site.port}
user = "{site.user}"
password = {{file = "{password}"}}
thumbprint = "{site.thumbprint}"
vddk = "{standin.home}"
"""


class World:
    """Two vCenters, one repository, and configurations that know either or both. A VM's name is what is called in the
    configuration too."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sites: dict[str, Site] = {}
        self.standins: dict[str, Standin] = {}
        self.vms: dict[str, tuple[str, FakeVm]] = {}
        for seed, name in enumerate(("a", "b")):
            (home / name).mkdir()
            self.standins[name] = Standin(home / f"vddk-{name}")
            self.sites[name] = Site(home / name, keep=True, seed=10 + seed)
            self.sites[name].serve(self.standins[name])
        made(self.repo)

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    def add(self, site: str, name: str, like: FakeVm | None = None, what: str = "instance bios disks") -> FakeVm:
        """A VM with content of its own, which has something in common with another one."""
        vm = self.sites[site].add_vm(name, [4 * MIB])
        with self.sites[site].changing():
            if like is not None:
                for key in ("instance", "bios"):
                    if key in what:
                        vm.spec[f"{key}_uuid"] = like.spec[f"{key}_uuid"]
                if "disks" in what:
                    vm.disks[0].uuid = like.disks[0].uuid
        vm.write(0, 0, name.encode() * 50_000)
        self.vms[name] = site, vm
        return vm

    def config(self, *sites: str) -> Path:
        """One that knows these vCenters, and their VMs."""
        chosen = sites or ("a", "b")
        password = self.home / "password"
        password.write_text(self.sites["a"].password + "\n")
        password.chmod(0o600)
        parts = [
            VCENTER.format(name=name, site=self.sites[name], password=password, standin=self.standins[name])
            for name in chosen
        ]
        parts.append(f'[repository.spare]\nuri = "{self.repo}"\n[defaults]\nstate = "{self.home}/state"\nlevel = 1\n')
        parts += [
            f'[vm.{name}]\nvcenter = "{site}"\npath = "/DC1/vm/{name}"\n'
            for name, (site, _) in self.vms.items()
            if site in chosen
        ]
        path = self.home / f"{'-'.join(chosen)}.toml"
        path.write_text("\n".join(parts))
        return path

    def sync(self, *names: str, more: tuple[str, ...] = (), knows: tuple[str, ...] = (), code: int = 0) -> Outcome:
        chosen = [word for name in names for word in ("--vm", name)] or ["--all"]
        outcome = command("sync", "--config", self.config(*knows), *chosen, *more)
        assert outcome.code == code, outcome
        for name in names:
            assert not self.snapshots(name)
        return outcome

    def snapshots(self, name: str) -> list[Any]:
        site, vm = self.vms[name]
        found: list[Any] = self.sites[site].state()[vm.moref]["snapshots"]
        return found

    def untouched(self, name: str) -> bool:
        """No snapshot of the VM was ever taken."""
        _, vm = self.vms[name]
        return not vm.taken and not self.snapshots(name)

    def points(self, vm: FakeVm) -> list[restore_point.RestorePoint]:
        folder = self.repo / "vms" / encode_name(str(vm.spec["instance_uuid"]).lower()) / "points"
        return [restore_point.decode(path.read_bytes(), str(path)) for path in sorted(folder.glob("*.json"))]

    def holds(self, chain: FakeVm, content: FakeVm) -> None:
        """The newest point of one's chain is the other's disk."""
        target = self.home / "replica.raw"
        vm_id = self.points(chain)[-1].vm_id
        assert command("apply", "--vm", vm_id, "--repo", self.repo, "--to", target).code == 0
        assert same(target, content.disks[0].image)
        target.unlink()
        shutil.rmtree(f"{target}.warmspare")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made_world = World(tmp_path)
    yield made_world
    for site in made_world.sites.values():
        site.close()


def both_named(outcome: Outcome, *paths: str) -> str:
    text = str((outcome.all("error") or outcome.all("sync.failed"))[-1]["message"])
    assert all(f"/DC1/vm/{path}" in text for path in paths), text
    return text


# twins


def test_in_two_vcenters_by_turns(world: World) -> None:
    prod = world.add("a", "prod")
    world.add("b", "copy", prod)
    for _ in range(2):
        world.sync("prod")
        refused = both_named(world.sync("copy", code=2), "prod", "copy")
        assert world.sites["a"].host in refused and "--adopt" in refused
    assert world.untouched("copy") and len(world.points(prod)) == 2
    world.holds(prod, prod)


@pytest.mark.parametrize("site", ["a", "b"])
def test_in_one_run(world: World, site: str) -> None:
    """Neither is touched, whichever comes first; in one vCenter as in two. Others are synced."""
    prod = world.add("a", "prod")
    world.add(site, "copy", prod)
    other = world.add("a", "other")
    done = world.sync(code=2)
    assert [e["exit_code"] for e in done.all("sync.failed")] == [2, 2]
    for event in done.all("sync.failed"):
        assert "/DC1/vm/prod" in event["message"] and "/DC1/vm/copy" in event["message"]
    assert world.untouched("prod") and world.untouched("copy") and not world.points(prod)
    world.holds(other, other)


def test_vms_and_doctor_show_them(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    prod = world.add("a", "prod")
    world.add("b", "copy", prod)
    world.add("a", "other")
    listed = {e["vm_name"]: e for e in command("vms", "--config", world.config()).all("vm")}
    assert listed["prod"]["state"] == listed["copy"]["state"] == "impossible"
    assert "/DC1/vm/copy" in listed["prod"]["twins"][0] and "/DC1/vm/prod" in listed["copy"]["reason"]
    assert listed["other"]["state"] == "protected" and not listed["other"]["twins"]
    assert run(["doctor", "--config", str(world.config()), "--json"]) == 2
    events = all_heard(capsys.readouterr().out)
    checks = [e for e in events if e["event"] == "check" and e["name"] == "identity"]
    assert [e["state"] for e in checks] == ["wrong", "wrong"]
    del world.vms["copy"]  # it is there, and nobody means to sync it
    listed = {e["vm_name"]: e for e in command("vms", "--config", world.config("a", "b")).all("vm")}
    assert listed["prod"]["state"] == "protected" and "/DC1/vm/copy" in listed["prod"]["reason"]


def test_in_one_vcenter_by_turns(world: World) -> None:
    prod = world.add("a", "prod")
    world.add("a", "copy", prod)
    world.sync("prod")
    both_named(world.sync("copy", code=2), "prod", "copy")
    world.sync("prod")
    world.holds(prod, prod)


@pytest.mark.parametrize("change", [{"power": "poweredOff"}, {"instance_uuid": None}], ids=["off", "upper case"])
def test_one_that_is_off_or_written_otherwise_is_a_twin_too(world: World, change: dict[str, Any]) -> None:
    prod = world.add("a", "prod")
    world.add("b", "copy", prod)
    world.sync("prod")
    with world.sites["a"].changing():
        prod.spec |= {k: v or str(prod.spec[k]).upper() for k, v in change.items()}
    both_named(world.sync("copy", code=2), "prod", "copy")


def test_a_twin_is_not_audited_as_the_other(world: World) -> None:
    prod = world.add("a", "prod")
    world.add("b", "copy", prod)
    world.sync("prod")
    audited = command("audit", "source", "--config", world.config(), "--vm", "copy")
    assert audited.code == 2 and world.untouched("copy")
    both_named(audited, "prod", "copy")
    assert command("audit", "source", "--config", world.config(), "--vm", "prod").code == 0


def test_one_machine_that_two_entries_mean_is_none(world: World) -> None:
    prod = world.add("a", "prod")
    config = world.config("a")
    config.write_text(
        config.read_text() + f'[vm.again]\nvcenter = "a"\ninstance_uuid = "{prod.spec["instance_uuid"]}"\n'
    )
    assert command("sync", "--config", config, "--all").code == 0
    assert len(world.points(prod)) == 1


def test_an_instance_uuid_that_two_have_finds_neither(world: World) -> None:
    prod = world.add("a", "prod")
    world.add("a", "copy", prod)
    del world.vms["prod"], world.vms["copy"]
    config = world.config("a")
    config.write_text(config.read_text() + f'[vm.db]\nvcenter = "a"\ninstance_uuid = "{prod.spec["instance_uuid"]}"\n')
    both_named(command("sync", "--config", config, "--vm", "db"), "prod", "copy")
    assert not prod.taken


def test_two_configurations_that_do_not_know_each_other(world: World) -> None:
    """The first jump may be a new vCenter, and is told; back again it is a jump between two that live."""
    prod = world.add("a", "prod")
    copy = world.add("b", "copy", prod)
    world.sync("prod", knows=("a",))
    moved = world.sync("copy", knows=("b",))
    assert "/DC1/vm/prod" in moved.last("vm.moved")["before"] and "/DC1/vm/copy" in moved.last("vm.moved")["now"]
    assert "lives elsewhere" in moved.last("disk.start")["reason"]
    world.holds(prod, copy)
    both_named(world.sync("prod", knows=("a",), code=2), "prod", "copy")
    assert not world.sync("copy", knows=("b",)).all("vm.moved")
    adopted = world.sync("prod", knows=("a",), more=("--adopt",))
    assert adopted.last("vm.moved")["adopted"] and adopted.last("disk.start")["reason"]
    world.holds(prod, prod)
    assert not world.sync("prod", knows=("a",)).last("disk.start")["reason"]
    both_named(world.sync("copy", knows=("b",), code=2), "prod", "copy")


@pytest.mark.parametrize("how", ["refuses the login", "is down"])
def test_a_vcenter_that_can_not_be_asked(world: World, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prod = world.add("a", "prod")
    copy = world.add("b", "copy", prod)
    world.sync("prod")
    if how == "is down":
        monkeypatch.setattr(session, "SessionPatience", lambda: SessionPatience(deadline_s=1.0, backoff_s=0.1))
        world.sites["a"].gone(600)
    else:
        with world.sites["a"].changing():
            world.sites["a"].fields["users"] = {world.sites["a"].user: "not this one"}
    refused = world.sync("copy", code=3).last("error")
    assert refused["retryable"] and "--adopt" in refused["message"] and "/DC1/vm/prod" in refused["message"]
    assert world.untouched("copy")
    world.sync("copy", more=("--adopt",))
    world.holds(prod, copy)


# rightful moves


@pytest.mark.parametrize("to", ["a", "b"], ids=["registered anew", "another vCenter"])
def test_a_move_after_which_the_old_one_is_gone(world: World, to: str) -> None:
    """Re-registration, a restore in place of the old, a move to another vCenter that is known: told, and compared."""
    prod = world.add("a", "prod")
    world.sync("prod")
    again = world.add(to, "prod", prod)
    world.sites["a"].remove_vm(prod)
    assert to == "b" or again.moref != prod.moref
    done = world.sync("prod")
    assert done.last("vm.moved")["adopted"] is False and "lives elsewhere" in done.last("disk.start")["reason"]
    world.holds(prod, again)
    later = world.sync("prod")
    assert not later.all("vm.moved") and not later.last("disk.start")["reason"]


def test_moves_within_a_vcenter_ask_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the place is that of the newest point nobody is asked: of vCenter nothing, of the store no list more."""
    prod = world.add("a", "prod")
    world.sync("prod")

    def never(*_: object) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(VsphereMachine, "lives", never)
    monkeypatch.setattr(Repository, "newest", never)
    with world.sites["a"].changing():
        prod.spec["host"] = "esx2.example"
    assert not world.sync("prod").all("vm.moved")


def test_points_of_an_earlier_version_take_it_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    prod = world.add("a", "prod")
    world.add("b", "copy", prod)
    with monkeypatch.context() as patch:
        patch.setattr(Identity, "as_json", lambda _: None)
        world.sync("prod")
    assert Identity.of(world.points(prod)[-1].hardware) is None
    world.sync("prod")
    identity = Identity.of(world.points(prod)[-1].hardware)
    assert identity is not None and identity.place.vcenter == world.sites["a"].fields["instance_uuid"]
    both_named(world.sync("copy", code=2), "prod", "copy")


# new ones


@pytest.mark.parametrize("what", ["bios", "disks", "bios disks"])
def test_a_new_id_that_looks_like_a_known_one(world: World, what: str) -> None:
    prod = world.add("a", "prod")
    world.sync("prod")
    clone = world.add("a", "clone", prod, what)
    world.add("a", "other")
    done = world.sync(code=2)
    assert len(done.all("sync.failed")) == 1 and len(done.all("sync.done")) == 2, "it is that VM's alone"
    text = both_named(done, "clone", "prod")
    assert "--adopt" in text and "--new" in text and not world.points(clone)
    assert world.untouched("clone")
    world.sync("clone", more=("--new",))
    world.sync("clone")
    world.sync("clone", code=2, more=("--new",))
    world.holds(clone, clone)
    world.holds(prod, prod)


def test_an_adopted_one_goes_on_in_that_chain(world: World) -> None:
    """Also later, and from another host; the one whose chain it was is refused from then on."""
    prod = world.add("a", "prod")
    world.sync("prod")
    heir = world.add("b", "heir", prod, "bios disks")
    done = world.sync("heir", more=("--adopt",))
    assert done.last("sync.done")["vm"] == prod.spec["instance_uuid"]
    assert not world.points(heir)
    world.holds(prod, heir)
    heir.write(0, MIB, b"more" * 1000)
    for _ in range(2):
        assert world.sync("heir").last("sync.done")["vm"] == prod.spec["instance_uuid"]
        shutil.rmtree(world.home / "state")
    world.holds(prod, heir)
    assert command("audit", "source", "--config", world.config(), "--vm", "heir").code == 0
    assert "heir" in world.sync("prod", code=2).stderr
    world.sync("prod", more=("--adopt",))
    world.holds(prod, prod)
    world.sync("heir", code=2)
    world.sync("heir", more=("--new",), code=0)
    world.holds(heir, heir)
    world.sync("heir")
    world.holds(heir, heir)


def test_a_retry_of_what_is_said_once_answers_with_its_point(world: World) -> None:
    """Neither --adopt nor --new stands in the way of the second try, from this host or another."""
    prod = world.add("a", "prod")
    first = world.sync("prod", more=("--new", "--request-id", "first")).last("sync.done")
    world.add("b", "heir", prod, "bios disks")
    done = world.sync("heir", more=("--adopt", "--request-id", "adopted")).last("sync.done")
    for _ in range(2):
        again = world.sync("heir", more=("--adopt", "--request-id", "adopted")).last("sync.unneeded")
        assert again["point"] == done["point"]
        assert (
            world.sync("prod", more=("--new", "--request-id", "first")).last("sync.unneeded")["point"] == first["point"]
        )
        shutil.rmtree(world.home / "state")
    assert [point.request_id for point in world.points(prod)] == ["first", "adopted"]


def test_disks_that_several_may_write_to_say_nothing(world: World) -> None:
    prod = world.add("a", "prod")
    shared = prod.add_disk(MIB, mode="independent_persistent")
    world.sync("prod", code=7)
    node = world.add("a", "node")
    with world.sites["a"].changing():
        node.add_disk(MIB, mode="independent_persistent").uuid = shared.uuid
    world.sync("node", code=7)


def test_what_is_said_must_fit(world: World) -> None:
    world.add("a", "prod")
    assert "exclude each other" in world.sync("prod", more=("--new", "--adopt"), code=2).stderr
    assert "leave out --adopt" in world.sync("prod", more=("--adopt",), code=2).stderr
    world.sync("prod")
    assert "leave out --adopt" in world.sync("prod", more=("--adopt",), code=2).stderr
    assert "leave out --new" in world.sync("prod", more=("--new",), code=2).stderr

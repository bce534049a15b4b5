"""How VMs stand: by the index where that is borne out, the long way where it is not, with what this host has kept."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

import warmspare
from rigs.stores.memory_store import MemoryStore
from rigs.stores.vm_fleet import ID, VmFleet, ago, uuid_of
from warmspare.cli.telling.status_table import NOT_KNOWN, row
from warmspare.errors import ConfigError, StoreError
from warmspare.format.index_shard import IndexShard, shard_of
from warmspare.model.ids import PointId, RunId, VmId, vm_key
from warmspare.observe.event import Event
from warmspare.observe.kinds.repository_events import StateUnreadable, StatusDone, VmStatusTold
from warmspare.recover.drills import drill_record
from warmspare.recover.drills.drill_record import DrillRecord, DrillStep
from warmspare.repository import vm_heads
from warmspare.repository.vm_heads import AT_ONCE, all_heads
from warmspare.state.local_files import STATE_DIRECTORY, write_record
from warmspare.state.replica_record import ReplicaRecord
from warmspare.status.host_records import PLANS
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo
from warmspare.sync.journal.journal import RunRecord
from warmspare.sync.local.state_record import ADOPTED_RECORD, STATE_RECORD, AdoptedRecord, StateRecord
from warmspare.sync.planning.rolling_cursor import RollingCursor

CONFIG = """\
[vcenter.main]
host = "vc.example.com"
user = "svc@vsphere.local"
password = {env = "PW"}
vddk = "/opt/vddk"
[repository.offsite]
uri = "s3://example/x"
"""


class CrowdedStore(MemoryStore):
    """Says how many requests were under way at once, and which records of points were read."""

    most = under_way = 0
    read: list[str]

    async def _asked(self, method: str, key: str) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await super()._asked(method, key)
        finally:
            self.under_way -= 1
        if method == "get" and "/points/" in key:
            self.__dict__.setdefault("read", []).append(key)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> VmFleet:
    """Any URI leads to it."""
    fleet = VmFleet()
    fleet.store.uri, fleet.store.server = "s3://example/x", "https://s3.eu-central-1.amazonaws.com"
    monkeypatch.setattr("warmspare.store.opening.open_store", lambda uri, **more: fleet.store)
    return fleet


class Asked:
    """What a request told and gave."""

    def __init__(self, events: list[Event], told: list[VmStatusTold], code: int) -> None:
        self.events, self.told, self.code = events, told, code

    def of(self, name: str) -> VmStatusTold:
        return next(one for one in self.told if name in (one.vm, one.vm_name, one.configured))


def status(tmp_path: Path, *, config: str = "", **fields: Any) -> Asked:
    events: list[Event] = []
    if config:
        fields["config"] = tmp_path / "warmspare.toml"
        fields["config"].write_text(CONFIG + config)
    else:
        fields.setdefault("repository", warmspare.RepositoryPlace("s3://example/x"))
    request = warmspare.StatusRequest(**fields)
    told = asyncio.run(warmspare.Engine(state=tmp_path / "state").run(request, events.append))
    assert [event for event in events if isinstance(event, VmStatusTold)] == told
    assert isinstance(events[-1], StatusDone) and events[-1].vms == len(told)
    return Asked(events, told, request.exit_code(told))


def test_five_hundred_are_told_by_the_index(tmp_path: Path, fleet: VmFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests each and one a shard, side by side; no record is read, and nothing is listed but the index and the
    keys of each VM from its head on."""
    fleet.store.__class__ = CrowdedStore
    fleet.many(500)
    shards = sum(key.startswith("index/") for key in fleet.store.objects) - 1
    fleet.store.latency_s = 0.001
    asked = status(tmp_path)
    assert len(asked.told) == 500 and {one.state for one in asked.told} == {"ok"}
    for one in asked.told:
        assert one.point == fleet.heads[VmId(one.vm)].id.label and one.disk_bytes == 5 << 30
    store = fleet.store
    assert isinstance(store, CrowdedStore)
    assert store.requests["head"] == 500 and store.requests["list"] == 501
    assert store.requests["get"] == shards + 2, (
        "each shard, the mark that there are no more, and whose repository it is"
    )
    assert 8 < store.most <= AT_ONCE and "read" not in store.__dict__
    assert set(store.requests) == {"head", "list", "get"}, "it only looks"


async def test_points_made_since_are_seen(fleet: VmFleet) -> None:
    fleet.many(5)
    for behind in (1, 40):
        for _ in range(behind):
            fleet.point(uuid_of(3), "vm 3", noted=False)
        heads = {head.id: head.point for head in await all_heads(fleet.repository)}
        assert heads == {vm: point.id for vm, point in fleet.heads.items()}


def forged(**fields: object) -> Callable[[IndexShard], IndexShard]:
    return lambda shard: msgspec.structs.replace(
        shard, vms=[msgspec.structs.replace(entry, **fields) for entry in shard.vms]
    )


SPOILT: dict[str, Callable[[IndexShard], IndexShard | bytes]] = {
    "a head that is not there": forged(sequence=9_999_999_999),
    "a head of before": forged(sequence=1),
    "a later date": forged(sequence=1, created=ago(-3600.0)),
    "a date that no calendar has": forged(created="2026-99-99T99:99:99Z"),
    "another repository's": lambda shard: msgspec.structs.replace(shard, repository="d" * 32),
    "another version": lambda shard: msgspec.structs.replace(shard, format=2),
    "not whole": lambda shard: msgspec.structs.replace(shard, vms=[], whole=False),
    "torn": lambda shard: b'{"format":1,"fla',
    "empty": lambda shard: b"",
}


@pytest.mark.parametrize("what", SPOILT)
async def test_an_index_that_is_wrong_costs_time_alone(fleet: VmFleet, what: str) -> None:
    fleet.many(9)
    fleet.point(uuid_of(4), "vm 4", age_s=7200.0)
    right = await all_heads(fleet.repository)
    assert [head.point for head in right] == [fleet.heads[head.id].id for head in right] and len(right) == 9
    number = shard_of("vm 4")
    fleet.write(number, SPOILT[what](fleet.shard(number)))
    assert await all_heads(fleet.repository) == right


async def test_without_an_index_all_vms_are_looked_at(fleet: VmFleet) -> None:
    fleet.many(9)
    right = await all_heads(fleet.repository)
    for lost in (layout.index_whole_key(), *[key for key in fleet.store.objects if key.startswith("index/")]):
        fleet.store.forget(lost)
        assert await all_heads(fleet.repository) == right
    fleet.store.refused = {("list", "index/")}
    assert await all_heads(fleet.repository) == right


async def test_a_date_that_the_store_does_not_bear_out_is_read_from_the_record(fleet: VmFleet) -> None:
    """In a copy every object is younger than its point; a forged date is at most as wrong as what is borne out."""
    fleet.store.__class__ = CrowdedStore
    fleet.many(3)
    key = layout.point_key(vm_key(uuid_of(1)), 1)
    data, when_s = fleet.store.objects[key]
    fleet.store.objects[key] = data, when_s + vm_heads.BORNE_OUT_S * 2
    await all_heads(fleet.repository)
    assert isinstance(fleet.store, CrowdedStore) and fleet.store.read == [key]


def test_states_and_what_is_to_be_done(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(6)
    fleet.point(uuid_of(1), "vm 1", age_s=3600.0)
    fleet.fail_over(uuid_of(2), "started")
    fleet.fail_over(uuid_of(3), "starting")
    fleet.fail_over(uuid_of(4), "cleared")
    key = layout.point_key(vm_key(uuid_of(5)), fleet.point(uuid_of(5), "vm 5", noted=False).id.sequence)
    fleet.store.keep(key, b"{")
    asked = status(tmp_path)
    states = {one.vm_name: (one.state, one.attention) for one in asked.told if one.vm_name != "vm 5"}
    assert states == {
        "vm 0": ("ok", False),
        "vm 1": ("late", True),
        "vm 2": ("failed over", False),
        "vm 3": ("failed over", True),
        "vm 4": ("ok", False),
    }
    damaged = asked.of("vm 5")
    assert damaged.state == "damaged" and "it is not JSON" in damaged.message and damaged.point is None
    assert damaged.next_step == f"warmspare audit repository --vm {uuid_of(5)} --repo s3://example/x"
    assert shlex.split(asked.of("vm 2").next_step.partition(",")[0])[1:4] == ["failback-done", "--vm", uuid_of(2)]
    assert asked.of("vm 2").failover and not asked.of("vm 4").failover
    late = asked.of("vm 1")
    assert late.rpo_seconds == 1800 and 3590 < (late.age_seconds or 0) < 3700 and late.next_step
    done = asked.events[-1]
    assert isinstance(done, StatusDone) and (done.attention, done.damaged) == (3, 1)
    assert asked.code == 0
    assert status(tmp_path, strict=True).code == 5
    assert status(tmp_path, strict=True, vms=("vm 1",)).code == 7
    assert status(tmp_path, strict=True, vms=("vm 0", uuid_of(2))).code == 0


def test_a_record_of_a_failover_that_is_damaged(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(1)
    fleet.store.keep(layout.failover_key(vm_key(uuid_of(0))), b"nonsense")
    told = status(tmp_path).of("vm 0")
    assert told.state == "damaged" and "failover record" in told.message and told.point


def test_a_name_that_nobody_has(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(2)
    with pytest.raises(ConfigError, match="there is no VM 'vm 7' here"):
        status(tmp_path, vms=("vm 1", "vm 7"))


def test_a_store_that_is_away(tmp_path: Path, fleet: VmFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.many(20)

    async def away(self: MemoryStore, key: str) -> ObjectInfo | None:
        raise StoreError("the server is away", where=key, retryable=True)

    monkeypatch.setattr(MemoryStore, "head", away)
    with pytest.raises(StoreError, match="away"):
        status(tmp_path)


# -- with a configuration


def test_what_is_configured_and_not_there(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(4)
    fleet.point(uuid_of(1), "a/b", age_s=1500.0)
    fleet.point(uuid_of(3), "vm 3", age_s=6000.0)
    config = f"""
    [vm.zero]
    instance_uuid = "{uuid_of(0)}"
    [vm.one]
    path = "/DC/vm/x/a%2fb"
    rpo = "20m"
    [vm.two]
    name = "vm 2"
    rpo = "10s"
    [vm.gone]
    name = "never synced"
    [vm.lost]
    instance_uuid = "{uuid_of(77)}"
    [vm.some]
    folder = "/DC/vm/y"
    rpo = "1h"
    [vm.more]
    tag = "gold"
    rpo = "3h"
    """
    asked = status(tmp_path, config=config)
    found = {one.configured or one.vm_name: (one.state, one.rpo_seconds) for one in asked.told}
    assert found == {
        "zero": ("ok", 900),
        "one": ("late", 1200),
        "two": ("late", 10),
        "gone": ("no restore point", 900),
        "lost": ("no restore point", 900),
        "vm 3": ("late", 3600),
    }
    step = asked.of("gone").next_step
    assert step == f"warmspare sync --config {tmp_path}/warmspare.toml --vm gone"
    assert asked.of("lost").vm == uuid_of(77) and asked.of("gone").vm == ""
    fleet.store.requests.clear()
    assert [one.configured for one in status(tmp_path, config=config, vms=("one", "gone")).told] == ["one", "gone"]


def test_a_name_that_the_index_does_not_know_is_looked_for_among_all(tmp_path: Path, fleet: VmFleet) -> None:
    """The sync of that VM could not write it there."""
    fleet.many(3)
    fleet.point(uuid_of(9), "web", noted=False)
    assert not [one for one in status(tmp_path).told if one.vm_name == "web"]
    [web] = [one for one in status(tmp_path, config='[vm.web]\nname = "web"').told if one.configured]
    assert (web.vm, web.state) == (uuid_of(9), "ok")
    [web] = [one for one in status(tmp_path, config=f'[vm.web]\ninstance_uuid = "{uuid_of(9)}"').told if one.configured]
    assert web.state == "ok"
    assert status(tmp_path, vms=("web",)).of("web").state == "ok"


def test_repositories_of_a_configuration_of_which_one_is_away(
    tmp_path: Path, fleet: VmFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.many(2)

    def opened(uri: str, **more: Any) -> MemoryStore:
        return fleet.store if uri == "s3://example/x" else MemoryStore()

    monkeypatch.setattr("warmspare.store.opening.open_store", opened)
    events: list[Event] = []
    path = tmp_path / "warmspare.toml"
    path.write_text(CONFIG + '[repository.other]\nuri = "s3://example/empty"\n')
    with pytest.raises(ConfigError, match="there is no warmspare repository here"):
        asyncio.run(warmspare.Engine(state=tmp_path).run(warmspare.StatusRequest(config=path), events.append))
    assert [event.vm for event in events if isinstance(event, VmStatusTold)] == [uuid_of(0), uuid_of(1)]


# -- what this host has kept


def folder_of(tmp_path: Path, vm: VmId) -> Path:
    return tmp_path / "state" / vm_key(vm) / ID


def seen(tmp_path: Path, vm: VmId, point: PointId) -> Path:
    folder = folder_of(tmp_path, vm)
    write_record(
        folder / "state.json", StateRecord(ID, "s3://example/x", vm, point.sequence, point.sha256), STATE_DIRECTORY
    )
    return folder


def drill(vm: VmId, name: str, result: Any, began: str, kind: Any = "qemu", *, several: bool = False) -> DrillRecord:
    step = DrillStep(
        vm=vm, vm_name=name, point="1-0", sequence=1, sha256="0" * 64, created=began, order=1, delay_seconds=0.0,
        ready="", result=result, reason="" if result == "passed" else "a kernel panic", exit_code=0, due_seconds=0.0,
        waited_seconds=0.0, ready_seconds=None, up_seconds=None, boot_seconds=None, rto_seconds=None, within=None,
        evidence="", verdict_sha256="",
    )  # fmt: skip
    return DrillRecord(
        1, 0, "", kind, "x", "h", "" if several else vm, "plan.toml", "s3://example/x", ID, began, began, 1.0, None,
        None, None, result, 0, [step], [],
    )  # fmt: skip


def test_what_a_sender_of_this_host_knows(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(5)
    seen(tmp_path, uuid_of(0), PointId(9, "e" * 64))
    folder = seen(tmp_path, uuid_of(1), fleet.heads[uuid_of(1)].id)
    RollingCursor(1, 2.0, covered_s=86400.0, round_spans=1024).write(folder / "disks" / "a" / "audit.json")
    RollingCursor(1, 2.0, covered_s=43200.0, round_spans=256).write(folder / "disks" / "b" / "audit.json")
    write_record(folder / "run" / "run.json", RunRecord(RunId("b" * 32), 2, None), STATE_DIRECTORY)
    (folder_of(tmp_path, uuid_of(2))).mkdir(parents=True)
    (folder_of(tmp_path, uuid_of(2)) / "state.json").write_text("torn")
    seen(tmp_path, uuid_of(88), PointId(3, "e" * 64))
    asked = status(tmp_path)
    assert asked.of("vm 0").state == "damaged" and "9-eeeeeeee" in asked.of("vm 0").message
    assert asked.of(uuid_of(88)).state == "damaged", "its points are gone, and the index does not know it"
    rolling = asked.of("vm 1").rolling
    assert rolling and rolling.covered == "1970-01-01T12:00:00Z" and rolling.round_percent == 25.0
    assert asked.of("vm 1").state == "ok" and not asked.of("vm 3").rolling
    [unreadable] = [event for event in asked.events if isinstance(event, StateUnreadable)]
    assert unreadable.path.endswith("state.json") and asked.of("vm 2").state == "ok"
    fleet.point(uuid_of(1), "vm 1", age_s=7200.0)
    assert "did not come to its end" in status(tmp_path).of("vm 1").message


def test_a_vm_that_was_adopted_is_its_chain(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(1)
    folder = folder_of(tmp_path, uuid_of(5))
    write_record(folder / "adopted.json", AdoptedRecord(uuid_of(0)), STATE_DIRECTORY)
    [told] = status(tmp_path, config=f'[vm.new]\ninstance_uuid = "{uuid_of(5)}"').told
    assert (told.vm, told.configured, told.state) == (uuid_of(0), "new", "ok")


def test_drills_of_this_host(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(6)
    chain = drill_record.of(tmp_path / "state" / "drill-records")
    for number in range(PLANS + 5):
        chain.keep(drill(uuid_of(4), "vm 4", "failed", ago(9000.0 - number), several=True))
    chain.keep(drill(uuid_of(0), "vm 0", "failed", ago(5000.0)))
    chain.keep(drill(uuid_of(0), "vm 0", "passed", ago(4000.0)))
    chain.keep(drill(uuid_of(1), "vm 1", "passed", ago(3000.0)))
    chain.keep(drill(uuid_of(1), "vm 1", "late", ago(2000.0), "ec2", several=True))
    chain.keep(drill(VmId("vm 2"), "vm 2", "not judged", ago(1000.0)))
    strange = msgspec.structs.replace(drill(uuid_of(3), "vm 3", "failed", ago(900.0)), repository_id="d" * 32)
    chain.keep(strange)
    asked = status(tmp_path)
    drills = {one.vm_name: (one.drill.result, one.drill.where) if one.drill else None for one in asked.told}
    assert drills == {
        "vm 0": ("passed", "qemu"),
        "vm 1": ("late", "ec2"),
        "vm 2": ("not judged", "qemu"),
        "vm 3": None,
        "vm 4": ("failed", "qemu"),
        "vm 5": None,
    }
    assert asked.of("vm 2").attention and asked.of("vm 2").next_step == f"warmspare drills --vm {uuid_of(2)}"
    assert "a kernel panic" in asked.of("vm 4").message and asked.of("vm 4").state == "ok"
    [newest] = (tmp_path / "state" / "drill-records").glob(f"{PLANS + 7:08d}-*.json")
    newest.chmod(0o600)
    newest.write_text("torn")
    older = status(tmp_path).of("vm 0").drill
    assert older and older.result == "failed", "the newest that can be read"


def audit_report(
    tmp_path: Path, number: int, kind: str, vm: str, result: str, subject: str = "x", saw: Sequence[str] = ()
) -> None:
    """As it is kept, of which status reads some fields."""
    folder = tmp_path / "state" / "audits"
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "format": 1, "number": number, "previous": "", "kind": kind, "vm": vm, "vm_name": vm, "repository_id": ID,
        "subject": subject, "ended": ago(1000.0 - number), "coverage_percent": 12.5, "result": result,
        "findings": [{"kind": "wrong"}], "figures": {f"head of {each}": f"1 {'e' * 64}" for each in saw},
    }  # fmt: skip
    (folder / f"{number:08d}-{kind}-{vm_key(VmId(vm or 'all'))}.json").write_bytes(msgspec.json.encode(report))


def test_audits_of_this_host(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(4)
    replica = tmp_path / "replica.raw"
    replica.write_bytes(b"x")
    holds = ReplicaRecord(1, ID, "s3://example/x", uuid_of(1), PointId(1, "e" * 64))
    write_record(tmp_path / "replica.raw.warmspare" / "replica.json", holds, STATE_DIRECTORY)
    audit_report(tmp_path, 1, "replica", uuid_of(1), "clean", str(replica))
    audit_report(tmp_path, 2, "repository", uuid_of(2), "findings")
    audit_report(tmp_path, 3, "source", uuid_of(3), "findings")
    asked = status(tmp_path)
    kinds = {one.vm_name: one.audit.kind if one.audit else None for one in asked.told}
    assert kinds == {"vm 0": None, "vm 1": "replica", "vm 2": "repository", "vm 3": "source"}
    assert asked.of("vm 1").replica == 1 and asked.of("vm 0").replica is None
    assert asked.of("vm 2").next_step.endswith("--repo s3://example/x --repair")
    assert [one.vm_name for one in asked.told if one.attention] == ["vm 2", "vm 3"]
    audit_report(tmp_path, 4, "repository", "", "clean", saw=[uuid_of(number) for number in range(3)])
    kinds = {one.vm_name: one.audit.kind if one.audit else None for one in status(tmp_path).told}
    assert kinds == {"vm 0": "repository", "vm 1": "repository", "vm 2": "repository", "vm 3": "source"}
    audit_report(tmp_path, 5, "repository", "", "findings")
    assert {one.audit.kind for one in status(tmp_path).told if one.audit} == {"repository"}


def test_local_state_that_can_not_be_read_stops_nothing(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.many(1)
    state = tmp_path / "state"
    state.mkdir()
    for name in ("drill-records", "audits"):
        (state / name).mkdir()
        (state / name / "00000001-qemu-vm.json").mkdir()
    asked = status(tmp_path)
    assert asked.of("vm 0").state == "ok" and not asked.of("vm 0").drill
    told = [Path(one.path) for one in asked.events if isinstance(one, StateUnreadable)]
    assert sorted(path.parent.name for path in told) == ["audits", "drill-records"]


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "torn"])
def test_one_bad_file_takes_nobody_elses_place(tmp_path: Path, fleet: VmFleet, kind: str) -> None:
    """What this host knows of the others counts: of a VM that was rolled back, for one."""
    fleet.many(3)
    state = tmp_path / "state"
    for number, name in ((0, STATE_RECORD), (1, ADOPTED_RECORD)):
        path = state / vm_key(VmId(uuid_of(number))) / ID / name
        path.parent.mkdir(parents=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to("nowhere")
        else:
            path.write_text("torn")
    seen = StateRecord(ID, "s3://example/x", VmId(uuid_of(2)), 9, "e" * 64)
    write_record(state / vm_key(seen.vm) / ID / STATE_RECORD, seen, STATE_DIRECTORY)
    for number, of in ((1, uuid_of(0)), (2, uuid_of(1))):
        audit_report(tmp_path, number, "replica", of, "findings")
    (state / "audits" / f"00000001-replica-{vm_key(VmId(uuid_of(0)))}.json").write_text("torn")
    asked = status(tmp_path)
    assert asked.of("vm 2").state != "ok" and asked.of("vm 1").audit and not asked.of("vm 0").audit
    told = {Path(one.path).name for one in asked.events if isinstance(one, StateUnreadable)}
    assert told == {STATE_RECORD, ADOPTED_RECORD, f"00000001-replica-{vm_key(VmId(uuid_of(0)))}.json"}


def test_the_table_says_what_is_not_known_here(tmp_path: Path, fleet: VmFleet) -> None:
    fleet.point(uuid_of(0), "ev\x1b[31mil", age_s=7000.0)
    [told] = status(tmp_path).told
    cells = row(told)
    assert cells[1] == "late" and "\x1b" not in "".join(cells)
    assert cells[3] == "1 h of 30 min" and cells[4:7] == (NOT_KNOWN,) * 3 and cells[7] == ""

"""`points` says why a point is kept: by the policy that the configuration has for its VM, holds, a failover."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import warmspare
from rigs.stores.vm_fleet import VmFleet, uuid_of
from warmspare.cli.telling.point_lines import PointLines, line
from warmspare.config.load import parse
from warmspare.engine.wiring.fleet_expected import FleetExpected
from warmspare.errors import ConfigError
from warmspare.format.retained import hold
from warmspare.format.retained.hold import Hold
from warmspare.model.ids import VmId, vm_key
from warmspare.observe.kinds.repository_events import PointListed
from warmspare.store import layout

DAY_S = 86400.0
VM = uuid_of(1)
BASE = """
[vcenter.main]
host = "vc.example.com"
user = "u"
password = {env = "PW"}
ca_file = "/ca.pem"
vddk = "/opt/vddk"
[repository.offsite]
uri = "s3://example/x"
"""


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> VmFleet:
    """A VM with a point each six hours for ten days."""
    fleet = VmFleet()
    monkeypatch.setattr("warmspare.store.opening.open_store", lambda uri, **more: fleet.store)
    noon_s = (time.time() // DAY_S - 1) * DAY_S + DAY_S / 2
    for number in range(40):
        fleet.point(VM, "web", age_s=time.time() - (noon_s - (39 - number) * DAY_S / 4), noted=number == 39)
    return fleet


def asked(config: Path | None, **fields: Any) -> list[PointListed]:
    place = warmspare.RepositoryPlace("s3://example/x", config=config)
    request = warmspare.PointsRequest(repository=place, vm=fields.pop("vm", "web"), **fields)
    found: list[PointListed] = asyncio.run(warmspare.Engine().run(request))
    return found


def written(tmp_path: Path, vm: str, more: str = "") -> Path:
    path = tmp_path / "warmspare.toml"
    path.write_text(f"{BASE}[vm.web]\n{vm}\n{more}")
    return path


def why(points: list[PointListed]) -> dict[int, list[str]]:
    return {one.sequence: one.kept for one in points if isinstance(one.kept, list)}


def test_it_is_said_of_each(fleet: VmFleet, tmp_path: Path) -> None:
    config = written(tmp_path, 'name = "web"\nkeep_last = 2\nkeep_daily = 3')
    found = asked(config)
    kept = {sequence: reasons for sequence, reasons in why(found).items() if reasons}
    assert len(found) == len(why(found)) == 40 and list(kept) == [33, 37, 39, 40]
    assert [one.partition(" ")[0] for one in kept[40]] == ["last", "daily", "newest"]
    assert kept[39] == ["last 2"] and kept[37][0].startswith("daily ")
    for fields, count in (({"last": 7}, 7), ({"last": 1}, 1), ({"since_s": time.time() - 4 * DAY_S}, None)):
        few = asked(config, **fields)
        assert count in (None, len(few)) and {n: r for n, r in why(few).items() if r}.items() <= kept.items()
        assert why(few)[40] == kept[40]


def test_where_it_can_not_be_told_it_is_not(fleet: VmFleet, tmp_path: Path) -> None:
    config = written(tmp_path, 'name = "web"\nkeep_last = 2')
    assert why(asked(config, until_s=time.time() - 3 * DAY_S)) == {} == why(asked(config, at="40"))
    assert why(asked(written(tmp_path, 'name = "web"'))) == {}, "no policy"
    assert why(asked(written(tmp_path, 'name = "other"\nkeep_last = 2'))) == {}, "another VM's"
    assert why(asked(None)) == {}, "no configuration"
    elsewhere = config.read_text().replace("s3://example/x", "s3://example/y")
    config.write_text(elsewhere)
    assert why(asked(config)) == {}, "another repository's"


def test_a_configuration_that_is_wrong(fleet: VmFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was named is an error; the usual one is of no use, and in nobody's way."""
    config = written(tmp_path, 'name = "web"\nkeep_last = -1')
    with pytest.raises(ConfigError):
        asked(config)
    monkeypatch.setattr("warmspare.engine.wiring.kept_points.config_path", lambda given: given or config)
    assert why(asked(None)) == {} and len(asked(None)) == 40


def test_days_are_those_of_the_policy(fleet: VmFleet, tmp_path: Path) -> None:
    found = asked(written(tmp_path, 'name = "web"\nkeep_daily = 5\ntime_zone = "Asia/Tokyo"'))
    assert all(one.local.endswith("+09:00") for one in found)
    assert all(one.local.endswith("+00:00") for one in asked(None))
    told = [reason for reasons in why(found).values() for reason in reasons if reason.startswith("daily")]
    days = sorted({one.local[:10] for one in found})
    assert told == [f"daily {day}" for day in days[-5:]]


def hold_on(fleet: VmFleet, sequence: int, reason: str) -> None:
    made = Hold(1, 0, VM, sequence, "a" * 64, reason, "2026-01-01T00:00:00Z", None, "h", "s")
    fleet.store.keep(layout.hold_key(vm_key(VM), sequence, "0" * 16), hold.encode(made))


def test_holds_and_a_failover_keep_points(fleet: VmFleet, tmp_path: Path) -> None:
    hold_on(fleet, 3, "the audit")
    assert {one.sequence: one.held for one in asked(None) if one.held} == {3: ["the audit"]}
    assert asked(None, at="3")[0].held == ["the audit"]
    fleet.store.keep(layout.hold_key(vm_key(VM), 40, "1" * 16), b"{")
    assert "can't be read" in asked(None, last=1)[0].held[0]
    config = written(tmp_path, 'name = "web"\nkeep_last = 1')
    fleet.fail_over(VM, "started")
    kept = {sequence: reasons for sequence, reasons in why(asked(config)).items() if reasons}
    assert kept[3] == ["held: the audit"] and list(kept) == [3, 40] and "failed over to" in kept[40]
    fleet.store.keep(layout.failover_key(vm_key(VM)), b"{")
    assert all("failed over to" in reasons for reasons in why(asked(config)).values())


def test_a_time_that_is_not_believed_is_said(fleet: VmFleet, tmp_path: Path) -> None:
    config = written(tmp_path, 'name = "web"\nkeep_last = 1')
    key = layout.point_key(vm_key(VM), 20)
    fleet.store.objects[key] = fleet.store.objects[key][0], time.time()
    fleet.store.keep(layout.point_key(vm_key(VM), 5), b"{")
    with pytest.raises(warmspare.WarmspareError):
        asked(config)
    fleet.store.objects[layout.point_key(vm_key(VM), 5)] = fleet.store.objects[key]
    fleet.store.forget(layout.point_key(vm_key(VM), 5))
    [reason] = why(asked(config))[20]
    assert reason.startswith("its time is not to be believed: it says") and "more than 26 hours later" in reason


def test_holds_without_end_keep_nobody_from_seeing_points(
    fleet: VmFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmspare.repository.holds.MOST_HOLDS", 0)
    hold_on(fleet, 3, "x")
    for config in (None, written(tmp_path, 'name = "web"\nkeep_last = 1')):
        events: list[Any] = []
        place = warmspare.RepositoryPlace("s3://example/x", config=config)
        for fields in ({}, {"last": 1}, {"last": 3}):
            events.clear()
            request = warmspare.PointsRequest(repository=place, vm="web", **fields)  # type: ignore[arg-type]
            with pytest.raises(warmspare.IntegrityError, match="more than 0 holds"):
                asyncio.run(warmspare.Engine().run(request, events.append))
            told = [event for event in events if isinstance(event, PointListed)]
            assert len(told) == fields.get("last", 40) and why(told) == {}


def test_whose_policy_it_is() -> None:
    def of(text: str, vm: VmId = VM, name: str = "web") -> int | None:
        settings = parse(BASE + text, Path("f.toml"))
        found = FleetExpected.of(settings, "s3://example/x/", None).retention(vm, name)
        return None if found is None else found.keep_last

    assert of(f'[vm.a]\ninstance_uuid = "{VM}"\nkeep_last = 3\n[vm.b]\nname = "web"\nkeep_last = 4') == 3
    assert of('[vm.b]\npath = "/dc/vm/web"\nkeep_last = 4') == 4
    folders = '[vm.f]\nfolder = "/dc/vm/x"\nkeep_last = 5\n[vm.t]\ntag = "gold"\nkeep_last = '
    assert of(folders + "5") == 5 and of(folders + "6") is None
    assert of(folders + '6\n[vm.b]\nname = "web"') == 0
    assert of('[vm.b]\nname = "other"') is None


def test_lines_stand_under_their_days(fleet: VmFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold_on(fleet, 38, "why")
    shown = PointLines()
    config = written(tmp_path, 'name = "web"\nkeep_daily = 1')
    for one in asked(config, last=8):
        assert shown.event(one)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"VM web ({VM})" and len(lines) == 1 + 3 + 8
    days = [text.strip() for text in lines if text.startswith("  2")]
    assert days == sorted(days) and len(days) == 3
    assert lines[-1].endswith(f"KEPT: daily {days[-1]}, newest") and lines[-2].endswith("not kept")
    assert sum("KEPT: held: why" in text for text in lines) == 1
    [plain] = asked(None, at="38")
    assert line(plain).endswith("HELD: why") and plain.local[11:19] + "Z" in line(plain)

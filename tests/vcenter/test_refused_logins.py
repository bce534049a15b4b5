"""A password that is refused, by vCenter or by VDDK: one login of it is enough, for all VMs and processes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakesite import Site
from rig import MIB, Outcome, command
from siterig import SiteRig, site_rig
from vcenter.vspheretools import session_at
from warmspare.cli.main import run
from warmspare.errors import ConfigError, SourceError
from warmspare.vsphere.api.session import SessionPatience

LOGINS = ("ConnectEx", "PrepareForAccess", "EndAccess")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteRig]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of-host"))
    with site_rig(tmp_path) as made:
        yield made


def logins(rig: SiteRig) -> int:
    return len(rig.site.journal("call", "Login"))


def refused(rig: SiteRig) -> int:
    """Of VDDK's calls, by the script."""
    return sum(rig.standin.hits()[name] for name in LOGINS)


def named_once(outcome: Outcome, names: list[str]) -> None:
    """Each of the VMs failed with a sentence that names it, once."""
    failed = {event["vm_name"]: event for event in outcome.all("sync.failed")}
    assert sorted(failed) == sorted(names)
    for name, event in failed.items():
        assert event["message"].count(f"VM {name}") == 1, event
        assert "replicator@vsphere.local" in event["message"] and event["exit_code"] == 2, event


def doctor(rig: SiteRig, *more: object) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return run(["doctor", "--config", str(rig.config), *map(str, more)])


def password(rig: SiteRig, text: str) -> None:
    (rig.home / "password").write_text(text + "\n")


def test_a_wrong_password_and_twenty_vms(rig: SiteRig) -> None:
    names = [f"vm{number}" for number in range(20)]
    with rig.site.changing():
        for name in names:
            rig.add(name, [MIB])
    password(rig, "wrong")
    named_once(rig.sync(code=2), names)
    assert logins(rig) == 1
    named_once(rig.sync(code=2), names)  # another run
    assert command("vms", "--config", rig.config).code == 2
    one = rig.sync("vm3", code=2)
    assert "VM vm3: vCenter refused the login of replicator" in one.stderr
    assert logins(rig) == 1 and sum(rig.standin.counts()[name] for name in LOGINS) == 0
    doctor(rig, "--vm", "vm0")  # which tries again
    assert logins(rig) == 2
    password(rig, rig.site.password)
    rig.sync("vm0")


def test_vddk_refuses_in_the_middle_of_a_run(rig: SiteRig) -> None:
    """The password was changed meanwhile. Nothing is left; the next runs don't log in, until doctor could."""
    names = [f"vm{number}" for number in range(5)]
    for name in names:
        rig.add(name, [MIB])
    rig.standin.script("from ConnectEx 2 error 3014\nfrom PrepareForAccess 4 error 3014\nfrom EndAccess 2 error 3014")
    named_once(rig.sync(code=2), names)
    assert refused(rig) == 1
    assert [rig.clean(vm) for vm in rig.vms.values()] == [[]] * 5
    before = logins(rig)
    named_once(rig.sync(code=2), names)
    assert refused(rig) == 1 and logins(rig) == before
    rig.standin.script("")
    doctor(rig, "--vm", "vm0")
    rig.sync("vm0", "vm1")
    counts = rig.standin.counts()
    assert counts["ConnectEx"] - 1 == counts["Disconnect"] == counts["Close"]


def test_each_of_the_calls_counts_for_all(rig: SiteRig) -> None:
    for name in ("a", "b"):
        rig.add(name, [MIB])
    for call in ("PrepareForAccess", "Cleanup"):
        number = rig.standin.counts()[call] + 1
        rig.standin.script(f"from {call} {number} error 3014")
        before = rig.standin.hits()[call]
        assert "VDDK refuse" in rig.sync(code=2).stderr
        assert rig.standin.hits()[call] == before + 1
        rig.standin.script("")
        doctor(rig)
    rig.standin.script("from EndAccess 1 error 3014")
    outcome = rig.sync()  # read and published; that the VM may be kept from moving is a warning
    assert "may go on to keep the VM from moving" in str(outcome.all("source.warning"))
    assert refused(rig) <= 3


def test_another_account_goes_on(rig: SiteRig) -> None:
    """Of another user, and of a second entry for the same vCenter; the same user is the same account."""
    for name in ("a", "b"):
        rig.add(name, [MIB])
    (rig.home / "nobody").write_text("wrong\n")
    (rig.home / "nobody").chmod(0o600)
    other = (
        '[vcenter.{name}]\nhost = "{site.host}"\nport = {site.port}\nuser = "{user}"\n'
        'password = {{file = "{home}/nobody"}}\nthumbprint = "{site.thumbprint}"\nvddk = "{vddk}"\n'
        '[vm.{name}]\nvcenter = "{name}"\npath = "/DC1/vm/none"\n'
    )
    rig.more = 'vcenter = "site"\n' + "".join(
        other.format(name=name, user=user, site=rig.site, home=rig.home, vddk=rig.standin.home)
        for name, user in (("x", "nobody@vsphere.local"), ("y", "Nobody@vsphere.local"))
    )
    rig.write_config()
    outcome = rig.sync(code=2)
    assert logins(rig) == 2
    assert sorted(event["vm_name"] for event in outcome.all("sync.failed")) == ["x", "y"]
    assert len(outcome.all("sync.done")) == 2
    assert outcome.last("sync.all")["failed"] == 2
    listed = command("vms", "--config", rig.config)
    assert listed.code == 2 and {"a", "b"} <= {event["vm_name"] for event in listed.all("vm")}


def test_processes_side_by_side_try_once(rig: SiteRig) -> None:
    for number in range(4):
        rig.add(f"vm{number}", [MIB])
    password(rig, "wrong")
    rig.site.rule("Login", delay_s=0.3)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "warmspare", "sync", "--config", rig.config, "--vm", f"vm{number}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for number, process in enumerate(running):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2 and said.count(f"VM vm{number}") == 1, said
    assert logins(rig) == 1


def test_a_right_that_lacks_is_no_refused_login(rig: SiteRig) -> None:
    """The library says 3014 of both; vCenter knows which."""
    for name in ("a", "b"):
        rig.add(name, [MIB])
    rig.site.missing_privileges("VirtualMachine.Provisioning.GetVmFiles")
    rig.standin.script("every ConnectEx error 3014")
    outcome = rig.sync(code=2)
    assert outcome.stderr.count("the user lacks VirtualMachine.Provisioning.GetVmFiles") == 2
    rig.site.missing_privileges("Global.DisableMethods")
    rig.standin.script("every PrepareForAccess error 3014")
    outcome = rig.sync()
    assert "lacks Global.DisableMethods" in str(outcome.all("source.warning"))
    assert rig.standin.hits()["PrepareForAccess"] == 1


async def test_twenty_renewals_at_once(site: Site) -> None:
    async with session_at(site) as session:
        with site.changing():
            site.fields["users"] = {site.user: "changed meanwhile"}
        site.expire_sessions()
        name = lambda: session.content.rootFolder.name  # noqa: E731
        ended = await asyncio.gather(*(session.call("reading", name) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(error, ConfigError) for error in ended), ended
        assert len(site.journal("call", "Login")) == 2


async def test_answers_to_logins_that_are_lost(site: Site) -> None:
    """Each may have been a refusal."""
    site.rule("Login", drop="after")
    with pytest.raises(SourceError, match="answers to 3 logins as replicator"):
        async with session_at(site, patience=SessionPatience(backoff_s=0.02, backoff_most_s=0.05)):
            pass
    assert len(site.journal("call", "Login")) <= 3

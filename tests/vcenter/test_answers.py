"""Answers of vCenter that were lost on their way, or that can't be understood: told in a sentence, asked for again
where that can help, and never more than the affair of the VM that they are about."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyVmomi import vim

from fakesite import Site
from rig import MIB, Outcome, command, run
from rigs.sites.answersfront import Answer, Change, Front, bare, envelope, front, page, soap, swapped
from siterig import SiteRig, site_rig
from vcenter.vspheretools import Record, session_at
from warmspare.config.disks import DiskSelection
from warmspare.config.settings import Find, Policy
from warmspare.errors import SourceError
from warmspare.source.vddk.vddk_doctor import Check
from warmspare.vsphere.api.faults import AnswerLostError
from warmspare.vsphere.api.session import SessionPatience
from warmspare.vsphere.inventory.find import find, find_all
from warmspare.vsphere.inventory.protectable import judge, refusal
from warmspare.vsphere.inventory.vm_info import read_one
from warmspare.vsphere.vm_doctor import examine

READ = "RetrieveProperties(Ex)?"
VERSIONS = "GET /sdk/vimServiceVersions.xml"
IMPATIENT = SessionPatience(deadline_s=0.2, backoff_s=0.05, backoff_most_s=0.1, connect_s=5.0, call_s=20.0)


def cut(answer: Answer) -> Answer:
    """It ends before its end."""
    return replace(answer, body=answer.body[: len(answer.body) * 2 // 3])


def short(answer: Answer) -> Answer:
    """The wire is cut in the middle of it."""
    return replace(cut(answer), headers=(*answer.headers, ("Content-Length", str(len(answer.body)))))


def badly_packed(answer: Answer) -> Answer:
    body = b"\x1f\x8b\x08" + b"garbage" * 9
    return replace(answer, headers=(*answer.headers, ("Content-Encoding", "gzip")), body=body)


def packed(answer: Answer) -> Answer:
    made = zlib.compressobj(wbits=31)
    return replace(
        answer, headers=(*answer.headers, ("Content-Encoding", "gzip")), body=made.compress(answer.body) + made.flush()
    )


OTHER = soap('<LogoutResponse xmlns="urn:vim25"></LogoutResponse>')
LOST: list[tuple[str, Change, str]] = [
    ("page", page(200), "a web page instead of an answer (HTTP 200), which says 'Bad Gateway [31m & more'"),
    ("page-500", page(500), "a web page instead of an answer (HTTP 500)"),
    ("page-502", page(502), "502 Bad Gateway: Bad Gateway [31m & more"),
    ("plain", page(200, b"no healthy upstream", "text/plain"), "something else instead of an answer (HTTP 200)"),
    ("json", page(200, b'{"type": "unavailable"}', "application/json"), "something else instead"),
    ("empty", bare(200), "an empty answer (HTTP 200)"),
    ("empty-500", bare(500), "an empty answer (HTTP 500)"),
    ("cut", cut, "breaks off"),
    ("short", short, "breaks off after"),
    ("badly-packed", badly_packed, "can't be unpacked (gzip)"),
    ("other-call", OTHER, "LogoutResponse (HTTP 200) where the answer to"),
    ("no-content", lambda answer: replace(answer, body=envelope("")), "without content"),
]


@pytest.fixture
def before(site: Site) -> Iterator[Front]:
    """What stands before the site."""
    with front(site) as made:
        yield made


# -- lost answers -----------------------------------------------------------------------------------------------------


async def test_lost_answers_are_asked_for_again(site: Site, before: Front) -> None:
    """Of the login, of bulk reads, of single properties and of what is no SOAP; the session stays what it was."""
    vm = site.add_vm("db", [MIB])
    for _, change, said in LOST:
        calls = ("Login", READ, "Fetch", "RetrieveServiceContent")
        for rule in [before.rule(call, change, times=1) for call in calls]:
            assert not rule.used
        record = Record()
        async with session_at(site, record, port=before.port) as session:
            assert [one.name for one in await find_all(session)] == ["db"]
            machine = session.bound(vim.VirtualMachine, vm.moref)
            assert await session.call("reading", lambda machine=machine: machine.name) == "db"  # type: ignore[misc]
        assert all(rule.used == 1 for rule in before.rules), said
        told = record.of("source.retry")
        assert len(told) == len(calls) and all(said in event["message"] for event in told), (said, told)
        assert all(event["message"].isprintable() for event in told)
        assert len(record.of("vsphere.login")) == 1, "a page's cookie put vCenter's out"
        before.clear()
    before.rule(VERSIONS, page(200), times=1)
    before.rule(READ, packed)
    async with session_at(site, port=before.port) as session:
        assert (await read_one(session, vm.moref, "db")).disks
        assert session._stub.versionId == '"urn:vim25/7.0.3.0"'  # type: ignore[union-attr]


@pytest.mark.parametrize("call", ["Login", READ, VERSIONS])
async def test_answers_that_stay_lost_end_in_one_sentence(site: Site, before: Front, call: str) -> None:
    site.add_vm("db", [MIB])
    before.rule(call, page(200))
    with pytest.raises(SourceError) as caught:
        patience = IMPATIENT if call != "Login" else replace(IMPATIENT, deadline_s=60.0)
        async with session_at(site, patience=patience, port=before.port) as session:
            await find_all(session)
    sentence = caught.value.sentence
    # each login whose answer is lost may have been a refused one, so there are few of them
    said = "logins as replicator@vsphere.local were lost" if call == "Login" else "vCenter's answers are lost"
    assert said in sentence and "Bad Gateway" in sentence and ("a proxy" in sentence or call == "Login")
    assert caught.value.retryable and "\n" not in sentence and sentence.isprintable()


async def test_a_redirect_is_named_and_not_followed(site: Site, before: Front) -> None:
    where = "https://login.example/saml?ticket=s3cret-ticket"
    site.add_vm("db", [MIB], tags=["dr/gold"])
    for call in ("Login", READ, VERSIONS, "GET /api/cis/tagging/tag"):
        for status in (302, 303, 307):
            rule = before.rule(call, bare(status, Location=where))
            with pytest.raises(SourceError, match=r"https://login\.example/saml") as caught:
                async with session_at(site, port=before.port) as session:
                    await find_all(session)
                    await find(session, Find("tag", "gold"))
            assert rule.used == 1 and "s3cret-ticket" not in str(caught.value)
            before.clear()


async def test_what_may_have_been_done_is_not_asked_for_again(site: Site, before: Front) -> None:
    vm = site.add_vm("db", [MIB])
    async with session_at(site, port=before.port) as session:
        machine = session.bound(vim.VirtualMachine, vm.moref)
        clock = session.bound(vim.ServiceInstance, "ServiceInstance")
        for _, change, said in LOST:
            rule = before.rule("CurrentTime", change)
            with pytest.raises(AnswerLostError) as caught:
                await session.once("asking the time", clock.CurrentTime)
            assert rule.used == 1 and said.replace("LogoutResponse (HTTP 200) where", "where") in str(caught.value)
            before.clear()
        before.rule("CurrentTime", swapped("<returnval>[^<]*", "<returnval>soon"))
        with pytest.raises(AnswerLostError, match="'soon' where datetime is due"):
            await session.once("asking the time", clock.CurrentTime)
        assert await session.call("reading", lambda: machine.name) == "db"


def lost_in_a_sync(between: Front, *kinds: str) -> None:
    """Each call of a run that changes something, or that trust rests on, loses its first answer, each in its way."""
    between.clear()
    changes = {name: change for name, change, _ in LOST}
    calls = ("CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task", "QueryChangedDiskAreas", "Login")
    for call, kind in zip(calls, kinds, strict=True):
        between.rule(call, changes[kind], times=1)


def test_a_run_whose_answers_are_lost(tmp_path: Path) -> None:
    """Nothing is done twice that must not be, nothing is left, and what is published is right."""
    with site_rig(tmp_path) as rig, front(rig.site) as between:
        vm = rig.add("db", [MIB], tracked=False)
        vm.write(0, 0, b"first")
        rig.write_config(port=between.port)
        lost_in_a_sync(between, "page", "cut", "other-call", "empty", "page-500")
        rig.sync("db")
        # one to switch change tracking on, one to read
        assert len(rig.site.journal("task", "CreateSnapshot_Task")) == 2 and not rig.clean(vm)
        rig.check(vm)
        vm.write(0, 128 << 10, b"second")
        lost_in_a_sync(between, "other-call", "page", "cut", "page", "short")
        done = rig.sync("db")
        assert [event["reason"] for event in done.all("disk.start")] == [""]
        assert between.seen.count("QueryChangedDiskAreas") == 2
        assert len(rig.site.journal("task", "CreateSnapshot_Task")) == 3
        assert not rig.clean(vm)
        rig.check(vm)


# -- what can't be understood -----------------------------------------------------------------------------------------


def of_disk(path: str, old: str, new: str) -> Change:
    """A change to the device that has this disk file, wherever it is told of."""
    within, file = r"(?:(?!</device>).)*?", re.escape(path)

    def change(answer: Answer) -> Answer:
        pattern = rf'<device [^>]*"VirtualDisk">{within}{file}{within}</device>'.encode()

        def other(found: re.Match[bytes]) -> bytes:
            assert old.encode() in found[0], found[0]
            return found[0].replace(old.encode(), new.encode(), 1)

        return replace(answer, body=re.sub(pattern, other, answer.body, flags=re.DOTALL))

    return change


def of_vm(moref: str, old: str, new: str) -> Change:
    """A change to what an answer says of one VM, where it does."""

    def change(answer: Answer) -> Answer:
        head, mark, rest = answer.body.partition(f'<obj type="VirtualMachine">{moref}</obj>'.encode())
        own, end, others = rest.partition(b"<obj type=")
        return replace(answer, body=head + mark + own.replace(old.encode(), new.encode()) + end + others)

    return change


# Of each disk of a VM but the first: what is changed about it, why it is not protected ("" where it is), and what of it
# is not understood.
ODD_DISKS = {
    "Hard disk 2": ("<diskMode>persistent<", "<diskMode>quantum<", "its mode is not known (quantum)", ""),
    "Hard disk 3": ("<sharing>sharingNone<", "<sharing>sharingQuantum<", "whether others write to it is not known", ""),
    "Hard disk 4": (
        '"VirtualDisk"',
        '"VirtualQuantumDisk"',
        "its device type VirtualQuantumDisk is not known",
        "device type VirtualQuantumDisk",
    ),
    "Hard disk 5": (
        '"VirtualDisk"',
        '"VirtualDevice"',
        "vCenter says no more of it than VirtualDevice",
        "vCenter says no more of it than VirtualDevice",
    ),
    "Hard disk 6": (
        "VirtualDiskFlatVer2BackingInfo",
        "VirtualDiskQuantumBackingInfo",
        "its backing type VirtualDiskQuantumBackingInfo is not known",
        "backing: type VirtualDiskQuantumBackingInfo",
    ),
    "Hard disk 7": (
        "<capacityInKB>",
        "<quantumMode>on</quantumMode><capacityInKB>",
        "",
        "device field quantumMode of VirtualDisk",
    ),
}
# Of another VM: what is changed, and what is not understood.
ODD_VM = (
    (">poweredOn<", ">hibernating<", "runtime.powerState: value 'hibernating'"),
    ('"ParaVirtualSCSIController"', '"VirtualQuantumController"', "scsi0: device type VirtualQuantumController"),
    ('"VirtualVmxnet3"', '"VirtualVmxnet9"', "Network adapter 1: device type VirtualVmxnet9"),
    (
        "</memoryMB>",
        '</memoryMB><device xsi:type="VirtualQuantumTimer"><key>77</key></device>',
        "device 77: device type VirtualQuantumTimer",
    ),
)


def odd_site(rig: SiteRig, between: Front) -> None:
    """A VM with odd disks, one that is odd itself, and one that is plain."""
    rig.add("plain", [MIB])
    disks = rig.add("disks", [MIB])
    for label, (old, new, _, _) in ODD_DISKS.items():
        disks.add_disk(MIB)
        path = str(disks.disks[-1].chain[-1])
        assert disks.disks[-1].label == label
        between.rule(f"{READ}|Fetch", of_disk(path, old, new))
    odd = rig.add("odd", [MIB])
    for old, new, _ in ODD_VM:
        between.rule(READ, of_vm(odd.moref, old, new))
        if "Controller" in old or "Vmxnet" in old:  # snapshots tell of them too
            between.rule("Fetch", swapped_in("[ds1] odd/", old, new))
    rig.write_config(port=between.port)


def swapped_in(holds: str, old: str, new: str) -> Change:
    """In what tells of something; other answers are left."""
    return lambda answer: swapped(old, new)(answer) if holds.encode() in answer.body else answer


def test_an_odd_vm_is_its_own_affair(tmp_path: Path) -> None:
    with site_rig(tmp_path) as rig, front(rig.site) as between:
        odd_site(rig, between)
        rig.sync(code=7)
        for vm in rig.vms.values():
            rig.check(vm)
            assert not rig.clean(vm)
        plain, disks, odd = (rig.point(vm) for vm in rig.vms.values())
        assert "unknown" not in plain.hardware and not plain.unprotected and not odd.unprotected

        assert [disk.name for disk in disks.unprotected] == [label for label, odd in ODD_DISKS.items() if odd[2]]
        assert all(ODD_DISKS[disk.name][2] in disk.reason for disk in disks.unprotected)
        assert [disk.attributes["label"] for disk in disks.disks] == ["Hard disk 1", "Hard disk 7"]
        assert disks.hardware["unknown"] == [f"{label}: {odd[3]}" for label, odd in ODD_DISKS.items() if odd[3]]

        assert sorted(odd.hardware["unknown"]) == sorted(said for _, _, said in ODD_VM)
        assert odd.hardware["disks"][0]["controller"] == odd.hardware["nics"][0]["kind"] == "unknown"
        asked = rig.site.journal("call", "CreateSnapshot_Task")
        of_odd = [call["args"]["quiesce"] for call in asked if call["object"] == rig.vms["odd"].moref]
        assert of_odd == [True], "it may run, so it is quiesced"

        listed = {event["vm_name"]: event for event in cli(rig, "vms").all("vm")}
        assert {event["state"] for event in listed.values()} == {"protected"} and len(listed) == 3
        assert listed["plain"]["unknown"] == [] and len(listed["odd"]["unknown"]) == len(ODD_VM)
        assert [one["name"] for one in listed["disks"]["left_out"]] == [disk.name for disk in disks.unprotected]
        with contextlib.redirect_stdout(io.StringIO()) as table:
            assert run(["vms", "--config", str(rig.config)]) == 0
        assert "not understood" in " ".join(table.getvalue().split())
        for name, notes in (("plain", 0), ("odd", 1)):
            checks = [one for one in asyncio.run(examined(rig, between, name)) if one.name == "hardware"]
            assert len(checks) == notes and all("VirtualQuantumTimer" in one.found for one in checks)
            assert all(one.state == "note" for one in checks)


async def examined(rig: SiteRig, between: Front, name: str) -> list[Check]:
    """What doctor says of a VM."""
    async with session_at(rig.site, port=between.port) as session:
        return await examine(session, await read_one(session, rig.vms[name].moref, name), Policy())


def cli(rig: SiteRig, *words: str) -> Outcome:
    return command(*words, "--config", rig.config)


def test_a_vm_that_is_not_understood_at_all(tmp_path: Path) -> None:
    """It is refused, with what is not understood; the others are synced and listed."""
    spoilt = {
        "hardware": ('"VirtualHardware"', '"QuantumHardware"', "config.hardware: type QuantumHardware"),
        "template": ('"xsd:boolean">false', '"xsd:boolean">perhaps', "config.template: 'perhaps' where bool is due"),
        "unread": (
            "<propSet><name>config.hardware</name><val",
            '<missingSet><path>config.hardware</path><fault><fault xsi:type="NoPermission"/><localizedMessage>'
            "Not yours.</localizedMessage></fault></missingSet><propSet><name>config.old</name><val",
            "config.hardware: it can't be read: Not yours",
        ),
    }
    with site_rig(tmp_path) as rig, front(rig.site) as between:
        plain = rig.add("plain", [MIB])
        for name, (old, new, _) in spoilt.items():
            between.rule(READ, of_vm(rig.add(name, [MIB]).moref, old, new))
        rig.write_config(port=between.port)
        done = rig.sync(code=3)
        rig.check(plain)
        errors = " ".join(event["message"] for event in done.all("sync.failed"))
        listed = {event["vm_name"]: event for event in cli(rig, "vms").all("vm")}
        for name, (_, _, said) in spoilt.items():
            assert said in errors and said in listed[name]["reason"] and listed[name]["state"] == "impossible"
            assert not rig.sequences(rig.vms[name]) and not rig.site.journal("task", "CreateSnapshot_Task")[1:]
        assert listed["plain"]["state"] == "protected"


async def test_a_vm_that_is_left_out_of_an_answer(site: Site, before: Front) -> None:
    """Without a word it is not gone: it is listed, and not protected."""
    vms = [site.add_vm(name, [MIB]) for name in ("a", "b")]
    own = rf'<returnval><obj type="VirtualMachine">{vms[1].moref}</obj>(?:(?!</returnval>).)*hardware.*?</returnval>'
    before.rule(READ, lambda answer: replace(answer, body=re.sub(own.encode(), b"", answer.body, flags=re.DOTALL)))
    async with session_at(site, port=before.port) as session:
        a, b = await find_all(session)
        assert (a.name, a.unreadable) == ("a", "") and "vCenter leaves it out" in b.unreadable
        before.clear()
        site.remove_vm(vms[1])
        assert [one.name for one in await find_all(session)] == ["a"]


async def test_an_answer_that_is_damaged_by_one_vm(site: Site, before: Front) -> None:
    """Then each is asked for alone; that one is what can't be read, and alone it is asked for again and again."""
    vms = [site.add_vm(name, [MIB]) for name in ("a", "b", "c")]
    before.rule(READ, of_vm(vms[1].moref, ">poweredOn<", "><odd:power/><"))
    async with session_at(site, port=before.port) as session:
        a, c, b = await find_all(session)  # of which no path is known
        assert a.disks and c.disks and not a.unreadable and not a.unknown
        assert b.unreadable.count("an answer that is damaged") == 1 and "config.hardware" in b.unreadable
        assert "can't be read or understood" in refusal(b, judge(b, DiskSelection()))[0]
        session.patience = IMPATIENT
        with pytest.raises(SourceError, match="vCenter's answers are lost, reading VMs from vCenter: the last was an"):
            await read_one(session, vms[1].moref, "b")


def test_faults_that_are_not_known_keep_their_words(tmp_path: Path) -> None:
    with site_rig(tmp_path) as rig, front(rig.site) as between:
        vm = rig.add("db", [MIB])
        rig.write_config(port=between.port)
        rig.sync()
        rig.site.rule("QueryChangedDiskAreas", fault={"type": "FileFault", "message": "The flux is low."})
        between.rule("QueryChangedDiskAreas", swapped("FileFault", "FluxFault"))
        done = rig.sync()
        assert "The flux is low (FluxFault)" in done.last("disk.start")["reason"]
        rig.check(vm)
        rig.site.clear_rules()
        rig.site.rule("CreateSnapshot_Task", fault={"type": "SnapshotFault", "message": "No room for dreams."})
        between.rule("Fetch", swapped_in('"SnapshotFault"', '"SnapshotFault"', '"DreamFault"'))
        assert "No room for dreams (DreamFault)" in rig.sync(code=3).last("error")["message"]
        between.clear()
        between.rule("Fetch", swapped_in(">error<", ">error<", ">dreaming<"))
        said = rig.sync(code=3).last("error")["message"]
        assert "the task is dreaming, which is not known here" in said and not rig.clean(vm)


async def test_a_server_that_does_not_say_its_versions(site: Site, before: Front) -> None:
    """An old version is spoken, and said; a newer device is then what vCenter makes of it, and not understood."""
    vm = site.add_vm("db", [MIB])
    vm.add_disk(MIB, controller="nvme0")
    tpm = '</memoryMB><device XMLSchema-instance:type="{}"><key>11000</key></device>'
    for change in (bare(404), swapped("<name>urn:vim25</name>", "<name>urn:other</name>"), None):
        record = Record()
        if change is not None:
            before.rule(VERSIONS, change)
        device = tpm.format("VirtualDevice" if change else "VirtualTPM")
        before.rule(READ, swapped_in("memoryMB", "</memoryMB>", device))
        async with session_at(site, record, port=before.port) as session:
            info = await read_one(session, vm.moref, "db")
            spoken = session._stub.versionId  # type: ignore[union-attr]
        assert [disk.controller for disk in info.disks] == ["pvscsi", "nvme"]
        assert spoken == ('"urn:vim25/6.5"' if change else '"urn:vim25/7.0.3.0"')
        assert info.unknown == (("device 11000: vCenter says no more of it than VirtualDevice",) if change else ())
        assert ("does not say which versions" in record.messages()) == bool(change)
        before.clear()


async def test_a_day_that_ends_at_24(site: Site, before: Front) -> None:
    before.rule("CurrentTime", swapped(r"<returnval>[^<]*", "<returnval>2024-02-29T24:00:00Z"))
    async with session_at(site, port=before.port) as session:
        clock = session.bound(vim.ServiceInstance, "ServiceInstance")
        assert (await session.call("asking", clock.CurrentTime)).isoformat() == "2024-03-01T00:00:00+00:00"
        before.rule("CurrentTime", swapped(r"<returnval>[^<]*", "<returnval>yesterday"))
        with pytest.raises(SourceError, match="asking: 'yesterday' where datetime is due") as caught:
            await session.call("asking", clock.CurrentTime)
        assert not caught.value.retryable


# -- tags -------------------------------------------------------------------------------------------------------------


async def test_tags_that_come_as_something_else(site: Site, before: Front) -> None:
    vm = site.add_vm("db", [MIB], tags=["dr/gold"])
    at = "/api/cis/tagging/"
    async with session_at(site, port=before.port) as session:
        calls = ("POST /api/session", f"GET {at}tag", f"GET {at}tag/.*", f"GET {at}category/.*", f"POST {at}tag-a.*")
        for call in calls:
            for change in (page(200), page(200, b"", "application/json"), cut):
                rule = before.rule(call, change, times=1)
                assert [one.moref for one in await find(session, Find("tag", "gold"))] == [vm.moref]
                assert rule.used == 1
                before.clear()
            for body in (b'{"value": "s3cret-token"}', b"[1, null]", b"[" * 5000 + b"]" * 5000):
                before.rule(call, page(200, body, "application/json"))
                patience, session.patience = session.patience, IMPATIENT
                with pytest.raises(SourceError) as caught:
                    await find(session, Find("tag", "gold"))
                session.patience = patience
                assert "vCenter" in caught.value.sentence and "s3cret-token" not in caught.value.sentence
                before.clear()

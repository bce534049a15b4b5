"""What vCenter's answers are read as, whatever is in them. No vCenter is needed."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import io
import re
import socket
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyVmomi import vim, vmodl

from rigs.sites.answersfront import envelope
from warmspare.vsphere.api import faults, garbled, soap
from warmspare.vsphere.api.garbled import GarbledError
from warmspare.vsphere.api.oddities import NotUnderstoodError, UnreadValue, laid_aside, oddities
from warmspare.vsphere.api.properties import _properties
from warmspare.vsphere.api.stub import spoken_in
from warmspare.vsphere.inventory.snapshot_tree import SnapshotTree
from warmspare.vsphere.inventory.vm_devices import read_devices
from warmspare.vsphere.tracking import changes

SECRET = "52fc9d6e-secret"
RETRIEVE = vmodl.query.PropertyCollector._GetMethodInfo("RetrieveContents")
AREAS = vim.VirtualMachine._GetMethodInfo("QueryChangedDiskAreas")
CREATE = vim.VirtualMachine._GetMethodInfo("CreateSnapshot")
TIME = vim.ServiceInstance._GetMethodInfo("CurrentTime")
FIND = vim.SearchIndex._GetMethodInfo("FindByUuid")
DISK = (
    '<device xsi:type="VirtualDisk"><key>2000</key><deviceInfo xsi:type="Description"><label>Hard disk 1</label>'
    '<summary>s</summary></deviceInfo><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds1] a/a.vmdk'
    "</fileName><diskMode>persistent</diskMode><uuid>6000C29b</uuid><sharing>sharingNone</sharing></backing>"
    "<controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>1024</capacityInKB>"
    "<capacityInBytes>1048576</capacityInBytes></device>"
)
BACKING = "VirtualDiskFlatVer2BackingInfo"
CONTROLLER = (
    '<device xsi:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber><device>2000</device>'
    "<sharedBus>noSharing</sharedBus></device>"
)
CARD = (
    '<device xsi:type="VirtualVmxnet3"><key>4000</key><backing xsi:type="VirtualEthernetCardNetworkBackingInfo">'
    '<deviceName>VM Network</deviceName><network type="Network">network-1</network></backing><connectable>'
    "<startConnected>true</startConnected><allowGuestControl>true</allowGuestControl><connected>true</connected>"
    "</connectable><macAddress>00:50:56:01:02:03</macAddress></device>"
)


def read(inner: str | bytes, call: Any, status: int = 200, secrets: tuple[str, ...] = ()) -> Any:
    return soap.read(envelope(inner) if isinstance(inner, str) else inner, status, call, None, secrets)


def one(properties: str, missing: str = "") -> Any:
    """An object of an answer of the property collector."""
    inner = f'<returnval><obj type="VirtualMachine">vm-1</obj>{properties}{missing}</returnval>'
    (found,) = read(f'<RetrievePropertiesResponse xmlns="urn:vim25">{inner}</RetrievePropertiesResponse>', RETRIEVE)
    return _properties(found)


def hardware(*devices: str) -> Any:
    inner = "<numCPU>2</numCPU><memoryMB>1024</memoryMB>" + "".join(devices)
    return one(f'<propSet><name>config.hardware</name><val xsi:type="VirtualHardware">{inner}</val></propSet>')


def read_hardware(*devices: str) -> Any:
    return read_devices(hardware(*devices)["config.hardware"].device, {"network-1": "VM Network"})


# -- what is no answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html><head><title>Bad\x1b[31m Way &amp; more</title></head></html>", 200, "says 'Bad [31m Way & more'"),
        (b"<!DOCTYPE html><body><h1>Maintenance</h1></body>", 500, "a web page instead of an answer (HTTP 500)"),
        (b"<html xmlns='http://www.w3.org/1999/xhtml'><body/></html>", 200, "a web page instead"),
        (f"<html><title>your session {SECRET} has ended</title>".encode(), 200, "your session *** has ended"),
        (b"no healthy upstream", 200, "something else instead of an answer (HTTP 200), which says 'no healthy up"),
        (b'{"error": "unavailable"}', 200, "something else"),
        (b"", 200, "an empty answer (HTTP 200)"),
        (b" \r\n", 500, "an empty answer (HTTP 500)"),
        (b"\xff\xfe\x00\x01\x02" * 50, 200, "something else"),
        (envelope("<CurrentTimeResponse><returnval>2024")[:-60], 200, "an answer that breaks off ("),
        (envelope(""), 200, "without content"),
        (envelope('<LoginResponse xmlns="urn:vim25"/>'), 200, "LoginResponse (HTTP 200) where the answer to"),
        (envelope('<CurrentTimeResponse xmlns="urn:vim25"/>'), 200, "without its result"),
        (envelope('<CurrentTimeResponse xmlns="urn:vim25"/>'), 500, "CurrentTimeResponse (HTTP 500)"),
        (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', 200, "something else"),
    ],
)
def test_what_is_no_answer(body: bytes, status: int, said: str) -> None:
    with pytest.raises(GarbledError) as caught:
        read(body, TIME, status, (SECRET,))
    told = faults.text(caught.value)
    assert said in told and told.isprintable() and len(told) < 300 and SECRET not in told
    assert isinstance(caught.value, faults.TROUBLE) and not faults.hopeless(caught.value)


def test_a_result_of_another_kind_is_no_answer() -> None:
    name = "CreateSnapshot_TaskResponse"
    task = f'<{name} xmlns="urn:vim25"><returnval type="{{}}">x-1</returnval></{name}>'
    assert read(task.format("Task"), CREATE)._GetMoId() == "x-1"
    with pytest.raises(GarbledError, match="as the result of CreateSnapshot_Task"):
        read(task.format("VirtualMachine"), CREATE)
    nothing = '<FindByUuidResponse xmlns="urn:vim25"/>'
    assert read(nothing, FIND) is None, "where nothing is an answer, it is one"


class Response(io.BytesIO):
    """As http.client has it."""

    def __init__(self, body: bytes, length: int = 0, **headers: str) -> None:
        super().__init__(body)
        self.length, self.headers = length, headers

    def getheader(self, name: str, default: Any = None) -> Any:
        return self.headers.get(name.replace("-", "_"), default)


def test_packed_answers() -> None:
    plain = envelope("<x/>") * 9
    gzip = zlib.compressobj(wbits=31)
    packed = gzip.compress(plain) + gzip.flush()
    raw = zlib.compressobj(wbits=-15)
    bare = raw.compress(plain) + raw.flush()

    def whole(body: bytes, encoding: str = "", length: int = 0) -> bytes:
        headers = {"Content_Encoding": encoding} if encoding else {}
        return garbled.whole(Response(body, length, **headers))  # type: ignore[arg-type]

    assert whole(plain) == whole(packed, "gzip") == whole(zlib.compress(plain), "deflate") == whole(bare, "deflate")
    for body, encoding, length, said in [
        (plain, "gzip", 0, "can't be unpacked"),
        (packed[:-20], "gzip", 0, "breaks off"),
        (b"", "gzip", 0, "breaks off"),
        (plain, "br", 0, "can't be unpacked (br)"),
        (plain, "", 7, f"breaks off after {len(plain)} of {len(plain) + 7}"),
    ]:
        with pytest.raises(GarbledError, match=re.escape(said)):
            whole(body, encoding, length)


def test_a_packed_answer_without_end_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbled, "ANSWER_BYTES", 1 << 20)
    with pytest.raises(GarbledError, match="more than 1 MiB"):
        garbled.whole(Response(zlib.compress(bytes(8 << 20)), Content_Encoding="deflate"))  # type: ignore[arg-type]
    with pytest.raises(GarbledError, match="more than 1 MiB"):
        garbled.whole(Response(bytes(2 << 20)))  # type: ignore[arg-type]


def test_where_a_redirect_leads_is_said_without_what_it_carries() -> None:
    response: Any = Response(b"", Location=f"https://u:{SECRET}@login.example:8443/saml?token={SECRET}#{SECRET}")
    response.status, response.reason = 302, "Found"
    error = garbled.refused(response, b"")
    assert str(error) == "302 Found, sent on to https://login.example:8443/saml" and faults.hopeless(error)
    response.status, response.reason = 503, "Service\x1bUnavailable"
    error = garbled.refused(response, b"Failed to connect to endpoint")
    assert str(error) == "503 Service Unavailable: Failed to connect to endpoint" and not faults.hopeless(error)
    assert isinstance(error, http.client.HTTPException)


# -- what is not known ------------------------------------------------------------------------------------------------


def test_values_types_and_fields_that_are_not_known() -> None:
    power = '<propSet><name>runtime.powerState</name><val xsi:type="VirtualMachinePowerState">{}</val></propSet>'
    for word in ("hibernating", "title", "count", ""):  # some are names that every text of Python has
        got = one(power.format(word))
        assert got["runtime.powerState"] == word and type(got["runtime.powerState"]) is str
        assert got.odd == {"runtime.powerState": [f"runtime.powerState: value {word!r}"]}
    assert one(power.format("poweredOn")).odd == {}
    got = hardware("<fooMode>7</fooMode>", '<device xsi:type="VirtualFoo"><key>9</key><bar><baz>1</baz></bar></device>')
    assert got["config.hardware"].numCPU == 2
    assert got.odd["config.hardware"] == [
        "config.hardware: field fooMode of VirtualHardware",
        "config.hardware.device: type VirtualFoo",
    ]
    assert laid_aside(got["config.hardware"]) == {"fooMode": "7"}
    got = one('<propSet><name>config.hardware</name><val xsi:type="QuantumHardware"><numCPU>1</numCPU></val></propSet>')
    assert got.unread == {"config.hardware": "type QuantumHardware"} and "config.hardware" not in got
    got = one('<propSet><name>config.template</name><val xsi:type="xsd:boolean">maybe</val></propSet>')
    assert got.unread == {"config.template": "'maybe' where bool is due"}
    got = one('<propSet><name>network</name><val xsi:type="ArrayOfFoo"><Foo>1</Foo></val></propSet>')
    assert got.unread == {"network": "type ArrayOfFoo"}
    got = one(
        '<propSet><name>network</name><val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference '
        'type="FooNetwork">n-1</ManagedObjectReference></val></propSet>'
    )
    assert [each._GetMoId() for each in got["network"]] == ["n-1"]


def test_what_may_not_be_read_is_said() -> None:
    fault = '<fault xsi:type="{}"><privilegeId>System.Read</privilegeId></fault><localizedMessage>{}</localizedMessage>'
    missing = "<missingSet><path>config.hardware</path><fault>{}</fault></missingSet>"
    for kind, said in (("NoPermission", "NoPermission"), ("QuantumPermission", "QuantumPermission")):
        got = one("", missing.format(fault.format(kind, "Permission to perform this\x85operation was denied.")))
        told = f"it can't be read: Permission to perform this operation was denied ({said})"
        assert got.unread == {"config.hardware": told}
    alone = one("", missing.format("<localizedMessage>only this</localizedMessage>"))
    assert "only this" in alone.unread["config.hardware"]
    assert one("", "<missingSet><path>name</path></missingSet>").unread["name"].endswith("vCenter does not say why")


def test_an_unknown_is_taken_for_nothing() -> None:
    """Not for zero, nor false, nor empty, nor equal to anything."""
    unknown: Any = UnreadValue("type Foo")
    uses: list[Callable[[], Any]] = [
        lambda: bool(unknown),
        lambda: int(unknown),
        lambda: str(unknown),
        lambda: f"{unknown}",
        lambda: unknown.name,
        lambda: unknown == "success",
        lambda: unknown != 0,
        lambda: unknown in ("a", "b"),
        lambda: list(unknown),
        lambda: unknown + 1,
        lambda: 1 - unknown,
        lambda: unknown <= 0,
        lambda: unknown(),
        lambda: unknown or "",
        lambda: len(unknown),
        lambda: unknown["x"],
        lambda: {unknown: 1},
    ]
    for use in uses:
        with pytest.raises(NotUnderstoodError, match="type Foo"):
            use()
    assert repr(unknown) == "<type Foo>" and not isinstance(unknown, str) and unknown is not None


def test_a_field_that_must_be_there_is_not_zero_instead() -> None:
    page = read(
        '<QueryChangedDiskAreasResponse xmlns="urn:vim25"><returnval><length>4096</length><changedArea><length>512'
        "</length></changedArea></returnval></QueryChangedDiskAreasResponse>",
        AREAS,
    )
    assert page.length == 4096
    for use in (lambda: page.startOffset != 0, lambda: page.changedArea[0].start < 0):
        with pytest.raises(NotUnderstoodError):
            use()


def test_changed_areas_of_an_unknown_kind_are_not_believed() -> None:
    inner = (
        "<returnval{}><startOffset>0</startOffset><length>4096</length><changedArea{}><start>0</start><length>512"
        "</length>{}</changedArea></returnval>"
    )
    text = '<QueryChangedDiskAreasResponse xmlns="urn:vim25">' + inner + "</QueryChangedDiskAreasResponse>"
    starts, lengths = array("q"), array("q")
    assert changes._take(read(text.format("", "", ""), AREAS), 0, 4096, starts, lengths) == ""
    for spoiled in (
        text.format(' xsi:type="PackedChangeInfo"', "", ""),
        text.format("", ' xsi:type="PackedExtent"', ""),
        text.format("", "", "<scale>512</scale>"),
    ):
        assert "not known here" in changes._take(read(spoiled, AREAS), 0, 4096, starts, lengths)


# -- devices ----------------------------------------------------------------------------------------------------------


def test_devices_that_are_known() -> None:
    found = read_hardware(CONTROLLER, DISK, CARD, '<device xsi:type="VirtualTPM"><key>11000</key></device>')
    assert found.unknown == () and [disk.unknown for disk in found.disks] == [""]
    assert (found.disks[0].controller, found.nics[0].kind, found.nics[0].network) == ("pvscsi", "vmxnet3", "VM Network")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"VirtualDisk"', '"VirtualQuantumDisk"', "its device type VirtualQuantumDisk is not known"),
        ('"VirtualDisk"', '"VirtualStore"', "its device type VirtualStore is not known"),
        ('"VirtualDisk"', '"VirtualDevice"', "vCenter says no more of it than VirtualDevice"),
        (BACKING, "VirtualDiskFooBackingInfo", "its backing type VirtualDiskFooBackingInfo is not known"),
        (BACKING, "VirtualDeviceFileBackingInfo", "VirtualDeviceFileBackingInfo is not a disk's"),
        (BACKING, "VirtualFloppyImageBackingInfo", "VirtualFloppyImageBackingInfo is not a disk's"),
        (BACKING, "HostSystemInfo", "does not say what it lies on"),
        ("<capacityInBytes>1048576<", "<capacityInBytes>1 MB<", "its capacity is not known"),
        ("<capacityInBytes>1048576</capacityInBytes></device>", "</device>", ""),
        ("<capacityInKB>1024</capacityInKB><capacityInBytes>1048576</capacityInBytes>", "", "its capacity is not"),
        ('"VirtualDisk"', '"HostFoo"', "its device type HostFoo is not known"),
        ('"VirtualDisk"', '"HostSystemInfo"', "HostHardwareInfo|HostSystemInfo where"),
    ],
)
def test_what_may_be_a_disk_is_never_skipped(old: str, new: str, reason: str) -> None:
    assert old in DISK
    found = read_hardware(CONTROLLER, DISK.replace(old, new, 1), CARD)
    (disk,) = found.disks
    assert re.search(reason, disk.unknown) and bool(reason) == bool(disk.unknown)
    assert len(found.nics) == 1


def test_a_disk_on_what_is_not_known() -> None:
    """The disk is one; of what it hangs on only that is taken which is told."""
    for kind in ("VirtualQuantumController", "VirtualController"):
        shared = CONTROLLER.replace("ParaVirtualSCSIController", kind)
        found = read_hardware(shared, DISK)
        assert (found.disks[0].controller, found.disks[0].unknown) == ("unknown", "")
        assert len(found.disks) == 1 and kind in found.unknown[0]
    shared = CONTROLLER.replace("ParaVirtualSCSIController", "VirtualQuantumController")
    assert read_hardware(shared.replace("noSharing", "quantumSharing"), DISK).disks[0].bus_sharing == "quantumSharing"
    without = CONTROLLER.replace("<sharedBus>noSharing</sharedBus>", "")
    assert read_hardware(without, DISK).disks[0].bus_sharing == "unknown"


def test_cards_of_an_unknown_kind_or_network() -> None:
    found = read_hardware(CARD.replace("VirtualVmxnet3", "VirtualVmxnet9"))
    (card,) = found.nics
    assert (card.kind, card.network, card.mac) == ("unknown", "VM Network", "00:50:56:01:02:03")
    assert found.unknown == ("device 4000: device type VirtualVmxnet9",) and found.disks == ()
    found = read_hardware(CARD.replace("VirtualEthernetCardNetworkBackingInfo", "VirtualEthernetCardFooBackingInfo"))
    assert (found.nics[0].kind, found.nics[0].network) == ("vmxnet3", "")
    assert found.unknown == ("network card 4000: backing: type VirtualEthernetCardFooBackingInfo",)
    found = read_hardware('<device xsi:type="VirtualFoo"><key>77</key><controllerKey>100</controllerKey></device>')
    assert (found.disks, found.nics) == ((), ()) and found.unknown == ("device 77: device type VirtualFoo",)


# -- faults, times, texts ---------------------------------------------------------------------------------------------


def fault(detail: str, said: str = "It can't be done.") -> BaseException:
    inner = f"<soapenv:Fault><faultcode>x</faultcode><faultstring>{said}</faultstring>{detail}</soapenv:Fault>"
    with pytest.raises(vmodl.MethodFault) as caught:
        read(inner, TIME, 500)
    with pytest.raises(type(caught.value)):
        read(inner, TIME, 200)
    return caught.value


def test_faults_keep_their_name_and_words() -> None:
    known = fault('<detail><NotFoundFault xmlns="urn:vim25" xsi:type="NotFound"/></detail>')
    assert isinstance(known, vim.fault.NotFound) and faults.text(known) == "It can't be done (NotFound)"
    unknown = fault('<detail><QuantumFault xmlns="urn:vim25" xsi:type="Quantum"><x>1</x></QuantumFault></detail>')
    assert faults.text(unknown) == "It can't be done (Quantum)"
    nearest = fault('<detail><NotFoundFault xmlns="urn:vim25" xsi:type="NewNotFound"/></detail>')
    assert isinstance(nearest, vim.fault.NotFound) and faults.text(nearest) == "It can't be done (NewNotFound)"
    alone = fault("")
    assert isinstance(alone, vmodl.RuntimeFault) and faults.text(alone) == "It can't be done (RuntimeFault)"
    assert faults.text(fault("<detail/>", "")) == "RuntimeFault"
    inner = "<faultMessage><key>k</key><message>From within</message></faultMessage>"
    within = fault(f'<detail><AFault xmlns="urn:vim25" xsi:type="A">{inner}</AFault></detail>', "")
    assert faults.text(within) == "From within (A)"
    refused = fault('<detail><NoPermissionFault xmlns="urn:vim25" xsi:type="NoPermission"/></detail>')
    assert "lacks a privilege" in faults.as_error("reading", refused, "here").sentence  # type: ignore[arg-type]
    long = faults.text(fault("", "x" * 9999 + "\x85"))
    assert len(long) < 340 and long.isprintable()


def test_what_a_login_sent_is_not_in_what_comes_back() -> None:
    with pytest.raises(vmodl.MethodFault) as caught:
        read(f"<soapenv:Fault><faultstring>can't parse {SECRET}</faultstring></soapenv:Fault>", TIME, 500, (SECRET,))
    assert SECRET not in str(caught.value) and faults.text(caught.value).startswith("can't parse ***")


def test_times() -> None:
    def at(text: str) -> Any:
        return read(f'<CurrentTimeResponse xmlns="urn:vim25"><returnval>{text}</returnval></CurrentTimeResponse>', TIME)

    utc = datetime.UTC
    assert at("2024-01-31T24:00:00Z") == datetime.datetime(2024, 2, 1, tzinfo=utc)
    assert at("2024-01-31T23:30:00.25-01:00") == datetime.datetime(2024, 2, 1, 0, 30, 0, 250000, tzinfo=utc)
    assert at("2024-01-31T10:00:00") == datetime.datetime(2024, 1, 31, 10, tzinfo=utc), "not this machine's own zone"
    for text in ("2024-01-31", "24:00", "2024-01-31T24:00:01Z", "now", "", "2024-02-31T00:00:00Z"):
        with pytest.raises(NotUnderstoodError):
            at(text)


def test_names_that_xml_has_no_letters_for() -> None:
    """vCenter sends them all the same, in answers about many VMs."""
    text = '<propSet><name>name</name><val xsi:type="xsd:string">a{}b</val></propSet>'
    for spoiled in ("\x01", "&#x1;", "&#1;", "\x0b", "&#xFFFF;"):
        assert one(text.format(spoiled))["name"] == "a\ufffdb"
    found = '<returnval type="VirtualMachine">vm-1</returnval>'
    body = envelope(f'<FindByUuidResponse xmlns="urn:vim25">{found}</FindByUuidResponse>')
    assert read(body.replace(b"vm-1", b"vm-\xff1"), FIND)._GetMoId() == "vm-\ufffd1"
    assert read(b"\xef\xbb\xbf" + body, FIND)._GetMoId() == "vm-1"
    assert one(text.format("&amp;&#x41;"))["name"] == "a&Ab"


def test_a_snapshot_tree_with_what_is_not_known() -> None:
    inner = (
        '<currentSnapshot type="VirtualMachineSnapshot">s-1</currentSnapshot><rootSnapshotList{}><snapshot '
        'type="VirtualMachineSnapshot">s-1</snapshot><name>n</name><description>d</description><createTime>'
        "2024-01-31T24:00:00Z</createTime><state>dreaming</state><quiesced>false</quiesced>{}</rootSnapshotList>"
    )
    text = '<propSet><name>snapshot</name><val xsi:type="VirtualMachineSnapshotInfo">' + inner + "</val></propSet>"
    got = one(text.format(' xsi:type="NewTree"', "<fresh>1</fresh>"))
    assert [node.created for node in SnapshotTree.of(got["snapshot"]).nodes] == ["2024-02-01T00:00:00.000+00:00"]
    assert got.odd["snapshot"] == [
        "snapshot.rootSnapshotList: type NewTree",
        "snapshot.rootSnapshotList.state: value 'dreaming'",
    ]
    with pytest.raises(NotUnderstoodError, match="no quiesced"):
        SnapshotTree.of(one(text.format("", "").replace("<quiesced>false</quiesced>", ""))["snapshot"])


@pytest.fixture
def usual_depth() -> Iterator[None]:
    """Python's own limit of recursion: hypothesis may have left a higher one to the tests after its own."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("usual_depth")
def test_what_is_nested_without_end_is_refused() -> None:
    deep = "<faultCause>" * 5000 + "</faultCause>" * 5000
    with pytest.raises((NotUnderstoodError, vmodl.MethodFault)):
        read(f"<soapenv:Fault><detail><AFault>{deep}</AFault></detail></soapenv:Fault>", TIME, 500)
    tree = '<backing xsi:type="VirtualDiskFlatVer2BackingInfo">' + "<parent>" * 3000 + "</parent>" * 3000 + "</backing>"
    with pytest.raises(NotUnderstoodError, match="nested too deeply"):
        hardware(f'<device xsi:type="VirtualDisk"><key>1</key>{tree}</device>')


WORDS = ["VirtualDisk", "xsd:int", "", "vm-1", "true", "-1", "Foo", "ArrayOfInt", "LocalizedMethodFault", "&#1;"]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 300), st.sampled_from(WORDS), st.booleans())
def test_whatever_comes_is_an_answer_a_lost_one_or_one_that_is_not_understood(
    start: int, length: int, word: str, whole_tags: bool
) -> None:
    """Pieces of a good answer cut out or replaced: never another exception, and what is read can be told of."""
    val = f'<val xsi:type="VirtualHardware"><numCPU>2</numCPU>{CONTROLLER}{DISK}{CARD}</val>'
    text = (
        '<RetrievePropertiesResponse xmlns="urn:vim25"><returnval><obj type="VirtualMachine">vm-1</obj><propSet>'
        f"<name>config.hardware</name>{val}</propSet></returnval></RetrievePropertiesResponse>"
    )
    start %= len(text)
    if whole_tags:  # a value between two tags, or a type, becomes another: the answer stays well-formed
        spans = [(m.start(1), m.end(1)) for m in re.finditer(r'[>"]([^<>"]+)[<"]', text)]
        first, last = spans[start % len(spans)]
        text = text[:first] + word + text[last:]
    else:
        text = text[:start] + word + text[start + length :]
    try:
        for found in read(text, RETRIEVE):
            got = _properties(found)
            if "config.hardware" in got and not isinstance(got["config.hardware"], str | int | list):
                devices = read_devices(getattr(got["config.hardware"], "device", ()), {})
                assert all(each.isprintable() for each in devices.unknown)
            assert all(len(oddity.text) < 300 for oddity in oddities(found))
    except (GarbledError, NotUnderstoodError):
        pass


@pytest.mark.parametrize(
    "body",
    [b"<title>" * 9400, b"<" * (1 << 16), b"<h1 " * 16_000, b"<title a=" * 7000, b"<TITLE>x" * 8000 + b"</title>"],
)
def test_a_page_that_is_made_to_take_long(body: bytes) -> None:
    """While it is looked at no signal is heard."""
    began = time.process_time()
    assert "instead of an answer" in str(garbled.instead(503, body))
    assert time.process_time() - began < 0.5


def test_versions_that_are_made_to_take_long() -> None:
    body = b"<namespaces>" + b"<namespace><name>urn:vim25</name>" * 60_000 + b"</namespaces>"
    began = time.process_time()
    assert spoken_in(body) == set()
    assert spoken_in(body.replace(b"</namespaces>", b"<version>8.0.3.0</version></namespace>")) == {"8.0.3.0"}
    assert time.process_time() - began < 2


@pytest.mark.parametrize("inner", ["<x/>" * 60, "<x>" * 60, '<x a="1" b="2"/>' * 20, "x" * 2000])
def test_an_answer_that_would_swell_is_of_one_of_many(monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    """So that what is asked about many VMs at once is asked about each then."""
    monkeypatch.setattr(garbled, "ANSWER_PARTS", 50)
    monkeypatch.setattr(garbled, "ANSWER_BYTES", 2000)
    with pytest.raises(garbled.DamagedError):
        read(garbled.whole(Response(envelope(inner))), TIME)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "begins", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"]
)
def test_an_answer_that_drips_has_an_end(begins: bytes) -> None:
    """Something comes all the time, so no read of the socket ever takes long."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as end:
                end.sendall(begins)
                while True:
                    end.sendall(b"x" if begins else b"HTTP/1.1 100 Continue\r\n\r\n")
                    time.sleep(0.01)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)
        connection.request("GET", "/")
        with pytest.raises(GarbledError, match="not there in"), garbled.within(connection, 0.3):
            garbled.whole(connection.getresponse())
        connection.close()
        thread.join(60)

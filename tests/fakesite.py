"""A whole fake vSphere site for tests and the demo: VMs whose disks are raw images here, real writes to them with
change tracking kept right, and a vCenter (tests/vcenter) that shows them.

It owns the truth: which files disks are in, what changed on them, which point in time a snapshot froze. The
simulator shows the site file that this writes, and asks before it does anything to a snapshot. One lock guards all
of it; nothing that waits for the simulator is called holding it."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rig import KIB
from rigs.sites.fakevm import FakeVm, FaultError, freeze_files
from rigs.sites.simulator import Certificate, Simulator
from standin import Standin

Files = dict[str, Path]  # path as VDDK is given it -> local raw file
Json = dict[str, Any]

USER, PASSWORD = "replicator@vsphere.local", "s3cret-for-tests"


class Site:
    """A vCenter at 127.0.0.2 with one datacenter, one cluster and two hosts; VMs are added by tests.

    Args:
        home: an existing folder for disks, snapshots, certificate, log and journal.
        granularity: of change tracking, in bytes.
        seed: of UUIDs and MAC addresses.
        keep: keep the frozen disks of removed snapshots, for comparing with them later.
        on_snapshot, on_removed: called with a snapshot's VDDK paths and the raw files behind them when it comes
            into being (before its task ends) and when it is gone; this is where a VDDK stand-in is told.
    """

    def __init__(
        self,
        home: Path,
        *,
        granularity: int = 64 * KIB,
        seed: int = 1,
        keep: bool = False,
        on_snapshot: Callable[[Files], None] | None = None,
        on_removed: Callable[[Files], None] | None = None,
        address: str = "127.0.0.2",
    ) -> None:
        self.home, self.granularity, self.keep = home, granularity, keep
        self.on_snapshot: Callable[[Files], None] = on_snapshot or (lambda _: None)
        self.on_removed: Callable[[Files], None] = on_removed or (lambda _: None)
        self.rng = random.Random(seed)
        self.lock = threading.RLock()
        self.vms: list[FakeVm] = []
        self.user, self.password = USER, PASSWORD
        self.fields: Json = {
            "users": {USER: PASSWORD},
            "datacenter": "DC1",
            "cluster": "C1",
            "hosts": ["esx1.example", "esx2.example"],
            "datastores": [
                {"name": "ds1", "type": "VMFS"},
                {"name": "ds2", "type": "VMFS"},
                {"name": "nfs1", "type": "NFS"},
                {"name": "nfs41", "type": "NFS41"},
            ],
            "networks": [{"name": "VM Network"}, {"name": "dv-prod", "key": "dvportgroup-21"}],
            "events": [],
            "event_database": {"id": "", "keep": 0, "next": 1},
            "instance_uuid": str(uuid.UUID(int=self.rng.getrandbits(128))),
            "missing_privileges": [],
        }
        for folder in ("disks", "frozen", "kept"):
            (home / folder).mkdir(exist_ok=True)
        self._deferred = 0
        self._serial = 0
        self.save()
        self.certificate = Certificate.make(home, address)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        hook = f"http://127.0.0.1:{self._server.server_port}/"
        try:
            self.simulator = Simulator.start(home, self.site_file, hook, self.certificate, f"{address}:0")
        except BaseException:
            self._stop_hook()
            raise

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End vCenter. The files stay."""
        self.simulator.close()
        self._stop_hook()

    def _stop_hook(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # where it is

    @property
    def site_file(self) -> Path:
        return self.home / "site.json"

    @property
    def host(self) -> str:
        return self.simulator.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.simulator.address.rpartition(":")[2])

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the certificate, AA:BB:…"""
        return self.certificate.thumbprint()

    @property
    def thumbprint_sha1(self) -> str:
        """The same as VDDK wants it."""
        return self.certificate.thumbprint("sha1")

    def serve(self, standin: Standin) -> None:
        """Have a VDDK stand-in find the disks of every snapshot from now on. A removed snapshot's files are gone, so
        nothing needs to be taken from it."""

        def show(files: Files) -> None:
            uuids = {path: disk.uuid for vm in self.vms for disk in vm.disks for path in disk.chain}
            for path, file in files.items():
                standin.disk(path, file, uuids[path])

        self.on_snapshot = show

    def replace_certificate(self) -> None:
        """vCenter has another certificate from the next connection on."""
        other = Certificate.make(self.home, self.host, "other")
        with self.lock:
            other.key.replace(self.certificate.key)
            other.certificate.replace(self.certificate.certificate)

    # what it holds

    def add_vm(self, name: str, disks: list[int], *, tracked: bool = True, **fields: Any) -> FakeVm:
        """A VM that is switched on. `disks` are their capacities in bytes; all are on ds1 unless `datastore` says
        otherwise. `tracked`: change tracking is on already. Other fields as in the site file's VM."""
        with self.changing():
            number = len(self.vms) + 1
            datastore = fields.pop("datastore", "ds1")
            vm = FakeVm(
                self,
                {
                    "moref": f"vm-{100 + number}",
                    "name": name,
                    "folder": "",
                    "instance_uuid": str(uuid.UUID(int=self.rng.getrandbits(128))),
                    "bios_uuid": str(uuid.UUID(int=self.rng.getrandbits(128))),
                    "host": "esx1.example",
                    "power": "poweredOn",
                    "firmware": "bios",
                    "cpus": 2,
                    "cores_per_socket": 1,
                    "memory_mib": 4096,
                    "guest_id": "debian11_64Guest",
                    "guest_name": "Debian GNU/Linux 11 (64-bit)",
                    "version": "vmx-19",
                    "tools_status": "toolsOk",
                    "change_tracking": tracked,
                    "consolidation_needed": False,
                    "tags": [],  # as "category/name"
                    "nics": [
                        {
                            "key": 4000,
                            "mac": f"00:50:56:{number:02x}:{self.rng.randrange(256):02x}:01",
                            "network": "VM Network",
                            "type": "vmxnet3",
                            "connected": True,
                        }
                    ],
                }
                | fields,
            )
            self.vms.append(vm)
            for capacity in disks:
                vm.add_disk(capacity, datastore=datastore)
            return vm

    def remove_vm(self, vm: FakeVm) -> None:
        """It is deleted from the inventory."""
        with self.changing():
            self.vms.remove(vm)

    def save(self) -> None:
        """Write the site file, at once or where `changing` ends."""
        with self.lock:
            if self._deferred:
                return
            new = self.home / "site.json.new"
            new.write_text(json.dumps(self.fields | {"vms": [vm.as_json() for vm in self.vms]}, indent=1))
            new.rename(self.site_file)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Holds the lock; what changed meanwhile is written to the site file in the end, in one step."""
        with self.lock:
            self._deferred += 1
            try:
                yield
            finally:
                self._deferred -= 1
                self.save()

    # what goes wrong

    def rule(self, method: str, **rule: Any) -> None:
        """Have something go wrong; see Rule in tests/vcenter/rules.go. `fault` may be a class's name alone."""
        if isinstance(rule.get("fault"), str):
            rule["fault"] = {"type": rule["fault"]}
        self.simulator.control("rules", [{"method": method, **rule}])

    def clear_rules(self) -> None:
        self.simulator.control("rules", method="DELETE")

    def rules(self) -> list[Json]:
        """The rules in force; "used" says how often each acted."""
        rules: list[Json] = self.simulator.control("rules")
        return rules

    def expire_sessions(self) -> int:
        """Every session is forgotten; how many there were."""
        count: int = self.simulator.control("expire", {})["sessions"]
        return count

    def gone(self, seconds: float, status: int = 0) -> None:
        """vCenter refuses connections, or answers with an HTTP status, for a while."""
        self.simulator.control("gone", {"seconds": seconds, "status": status})

    def missing_privileges(self, *names: str) -> None:
        """Nobody has these from now on."""
        with self.changing():
            self.fields["missing_privileges"] = list(names)

    def event(
        self,
        kind: str,
        vm: FakeVm | None = None,
        *,
        ago_s: float = 0.0,
        host: str = "",
        message: str = "",
        hidden: bool = False,
    ) -> None:
        """An entry in vCenter's event history, the next by its key; `kind` is a class of the API, or the ID of an
        EventEx. ago_s: what whoever dates it says; negative for a date to come. hidden: it can't be queried before
        `reveal`."""
        with self.changing():
            self._serial += 1
            entry = {"type": kind, "time": _ago(ago_s), "host": host, "message": message, "user": "root"}
            entry |= {"vm": vm.moref if vm else "", "serial": self._serial, "hidden": hidden}
            self.fields["events"].append(entry)

    def reveal(self) -> None:
        """Hidden events can be queried."""
        with self.changing():
            for entry in self.fields["events"]:
                entry["hidden"] = False

    def newest_event(self) -> int:
        """The key that was given last."""
        newest: int = self.simulator.control("events")["newest"]
        return newest

    def events_from(self, ago_s: float) -> None:
        """The event history reaches back so far and no further."""
        with self.changing():
            self.fields["events_from"] = _ago(ago_s)

    def other_event_database(self, *, keep: int = 0, following: int | None = None) -> None:
        """Events lie in another database, which has those up to a key, as one that was restored, and counts on from
        there, or from `following`."""
        with self.changing():
            database = {"id": str(uuid.uuid4()), "keep": keep, "next": keep + 1 if following is None else following}
            self.fields["event_database"] = database

    def clock_ahead(self, seconds: float) -> None:
        """vCenter's clock is so far ahead of this machine's, behind where it is negative."""
        with self.changing():
            self.fields["clock_ahead_s"] = seconds

    # what happened

    def journal(self, kind: str = "", method: str = "") -> list[Json]:
        """The entries of the simulator's journal, in the order in which things ended."""
        lines = (self.home / "journal.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [e for e in entries if kind in ("", e["kind"]) and method in ("", e["method"])]

    def state(self) -> Json:
        """Per VM (by moref) its snapshots, oldest first, and whether a task runs on it."""
        vms: Json = self.simulator.control("state")["vms"]
        return vms

    # what the simulator asks

    def told(self, what: Json) -> Json:
        """Answer one question of the simulator."""
        with self.lock:
            vm = next((vm for vm in self.vms if vm.moref == what["vm"]), None)
            if vm is None:
                return {"fault": {"type": "ManagedObjectNotFound"}}
            try:
                if what["event"] == "changed-areas":
                    extents = vm.changed_areas(
                        what["snapshot"], int(what["disk"]), what["change_id"], what["start"], what["limit"]
                    )
                    return {"extents": extents}
                before = freeze_files(vm)
                with self.changing():
                    vm.told(what)
                self._announce(before, freeze_files(vm))
            except FaultError as error:
                return {"fault": error.as_json()}
            return {}

    def _announce(self, before: Files, after: Files) -> None:
        gone = {path: file for path, file in before.items() if after.get(path) != file}
        new = {path: file for path, file in after.items() if before.get(path) != file}
        if gone:
            self.on_removed(gone)
        if new:
            self.on_snapshot(new)


def _ago(seconds: float) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).isoformat()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one segment, or the answer waits 40 ms for an acknowledgement

        def do_POST(self) -> None:
            what = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(site.told(what)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    return Handler

"""A whole Ceph of Debian's on loopback for tests: a monitor, an OSD that keeps all in memory, its S3 gateway.

Nothing of it outlives the context, and nothing of a Ceph that this machine may have is read or touched.
"""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from servers import S3Server, free_port, wait_ready

ACCESS, SECRET = "ceph-access", "ceph-secret-3d10"
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms mon client mode = crc
paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon data = {home}/mon
mon data avail crit = 0
mon data avail warn = 0
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
rgw frontends = beast endpoint=127.0.0.1:{s3}
rgw thread pool size = 32
rgw enable gc threads = false
rgw enable lc threads = false
admin socket = {home}/$name.asok
log file = {home}/$name.log
crash dir = {home}
run dir = {home}
pid file =
"""


@contextlib.contextmanager
def ceph_server(home: Path) -> Iterator[S3Server]:
    """Its gateway, ready when this returns, with what belongs to it in `home` (which must exist)."""
    fsid, osd, mon, s3 = str(uuid.uuid4()), str(uuid.uuid4()), free_port(), free_port()
    configuration = home / "ceph.conf"
    configuration.write_text(_CONFIGURATION.format(home=home, fsid=fsid, mon=mon, s3=s3))
    for name in ("mon", "osd"):
        (home / name).mkdir()
    with contextlib.ExitStack() as stack:

        def run(*words: str) -> None:
            done = subprocess.run([*words, "-c", str(configuration)], capture_output=True, text=True, timeout=240)
            if done.returncode:
                raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")

        def start(*words: str) -> subprocess.Popen[bytes]:
            with (home / "out.log").open("ab") as log:
                process = subprocess.Popen(
                    [*words, "-c", str(configuration), "-f"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", str(home / "monmap"))
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(home / "monmap"))
        start("ceph-mon", "-i", "a")
        run("ceph", "osd", "new", osd)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", "-i", "0")
        keys = (f"--access-key={ACCESS}", f"--secret={SECRET}")
        run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        gateway = start("radosgw", "-n", "client.admin")
        server = S3Server.at(f"http://127.0.0.1:{s3}", ACCESS, SECRET)
        wait_ready(gateway, server.endpoint_url, home / "out.log")
        yield server

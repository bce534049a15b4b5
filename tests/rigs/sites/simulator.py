"""Builds and runs the vCenter simulator of tests/vcenter; knows nothing of disks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigs.paths import BUILD, TESTS

_SOURCES = TESTS / "vcenter"
_BUILDS = BUILD / "vcenter"
_LIBRARY = Path("/usr/share/gocode/src/github.com/vmware/govmomi/simulator")


class UnavailableError(RuntimeError):
    """The simulator can't be built here; says what is missing."""


def available() -> str:
    """Empty, or what is missing to build it."""
    missing = []
    if shutil.which("go") is None:
        missing.append("golang-go")
    if not _LIBRARY.is_dir():
        missing.append("golang-github-vmware-govmomi-dev")
    return f"the Debian packages {' and '.join(missing)} are not installed" if missing else ""


def build() -> Path:
    """The simulator's program, built where its sources or the compiler are new. Safe to call at the same time.

    Raises:
        UnavailableError: something that it is built from is missing, or it does not compile.
    """
    if missing := available():
        raise UnavailableError(missing)
    digest = hashlib.sha256(subprocess.run(["go", "version"], capture_output=True, check=True).stdout)
    for source in sorted(_SOURCES.glob("*.go")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    folder = _BUILDS / digest.hexdigest()[:16]
    program = folder / "vcenter"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists():
            return program
        environment = os.environ | {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOFLAGS": ""}
        environment["CGO_ENABLED"] = "0"
        if "GOCACHE" not in environment and not os.access(Path.home(), os.W_OK):
            environment["GOCACHE"] = str(_BUILDS.parent / "go-cache")
        made = folder / "vcenter.new"
        done = subprocess.run(
            ["go", "build", "-o", made, "."], cwd=_SOURCES, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise UnavailableError(f"the vCenter simulator does not compile:\n{done.stderr}")
        made.rename(program)
    return program


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, address: str, name: str = "vcenter") -> Certificate:
        """A new one for an IP address."""
        made = cls(folder / f"{name}.pem", folder / f"{name}.key")
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                f"/CN={name}.example",
                "-addext",
                f"subjectAltName=IP:{address}",
                "-keyout",
                made.key,
                "-out",
                made.certificate,
            ],
            check=True,
            capture_output=True,
        )
        return made

    def thumbprint(self, algorithm: str = "sha256") -> str:
        """Its hash in the form AA:BB:…"""
        command = ["openssl", "x509", "-in", self.certificate, "-outform", "der"]
        der = subprocess.run(command, check=True, capture_output=True).stdout
        return hashlib.new(algorithm, der).digest().hex(":").upper()


@dataclass
class Simulator:
    """A running simulator. Use as a context manager, or close it."""

    process: subprocess.Popen[bytes]
    address: str  # host:port of vCenter
    url: str
    control_url: str

    @classmethod
    def start(
        cls, home: Path, site_file: Path, hook_url: str, certificate: Certificate, listen: str = "127.0.0.2:0"
    ) -> Simulator:
        """Start it with its log and journal in `home`; ready when this returns."""
        program = build()
        files = ["-certificate", certificate.certificate, "-key", certificate.key, "-journal", home / "journal.jsonl"]
        with (home / "vcenter.log").open("ab") as log:
            process = subprocess.Popen(
                [program, "-site", site_file, "-hook", hook_url, "-listen", listen, *files],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait()
            raise RuntimeError(f"the simulator did not start:\n{(home / 'vcenter.log').read_text()[-3000:]}")
        ready = json.loads(line)
        return cls(process, ready["address"], ready["url"], ready["control"])

    def control(self, what: str, body: object = None, method: str = "") -> Any:
        """Ask its control endpoint; the decoded answer."""
        data = None if body is None else json.dumps(body).encode()
        method = method or ("POST" if data else "GET")
        request = urllib.request.Request(f"{self.control_url}/{what}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{what}: {error.read().decode().strip()}") from error

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

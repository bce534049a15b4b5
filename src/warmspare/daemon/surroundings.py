"""What a command takes from where it is started, so that a daemon can tell whether it would do the same; refuses to
let any value of a variable out of its process.

Variables are compared by hashes, keyed with a number that the daemon draws for each connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

import warmspare
from warmspare.version import __version__

HASH_BYTES = 16
MOST_VARIABLES = 4096
NAMESPACES = ("mnt", "net", "pid", "user")
# What the work itself, and the libraries and programs that it uses, look at. WARMSPARE_* stand in the request already.
_COMPARED = frozenset(
    [
        "HOME",
        "PATH",
        "TMPDIR",
        "TEMP",
        "TMP",
        "TZ",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "XDG_STATE_HOME",
        "XDG_CONFIG_HOME",
        "BOTO_CONFIG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "OPENSSL_CONF",
        "SSLKEYLOGFILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ]
)
_PREFIX = "AWS_"
# Of these, what names a path: a relative one is another path in another directory.
_PATHS = re.compile(
    "(HOME|PATH|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|PYTHONPATH|SSLKEYLOGFILE|.*_(FILE|DIR|CONF|CONFIG|BUNDLE|PATH))"
)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """program: its version, the interpreter, the package, and when that was put there. groups: its own first.
    encoding: of the names of files. niceness: as nice(1) has it. capabilities: the effective ones. root: device and
    inode of the root directory. namespaces: of the kernel, by kind. variables: a hash of each value."""

    program: tuple[str, str, str, int]
    user: int
    groups: tuple[int, ...]
    umask: int
    encoding: str
    niceness: int
    capabilities: str
    root: tuple[int, int]
    namespaces: dict[str, str]
    variables: dict[str, str]

    @classmethod
    def here(cls, nonce: bytes) -> Surroundings:
        """Those of this process. nonce: of the connection."""
        package = Path(warmspare.__file__)
        root, status = Path("/").stat(), _status()
        return cls(
            program=(__version__, sys.executable, str(package.parent), package.stat().st_mtime_ns),
            user=os.geteuid(),
            groups=(os.getegid(), *sorted(set(os.getgroups()))),
            umask=int(status.get("Umask", "-1"), 8),
            encoding=sys.getfilesystemencoding(),
            niceness=os.getpriority(os.PRIO_PROCESS, 0),
            capabilities=status.get("CapEff", ""),
            root=(root.st_dev, root.st_ino),
            namespaces={kind: _namespace(kind) for kind in NAMESPACES},
            variables={
                name: _hashed(nonce, _whole(value) if _PATHS.fullmatch(name) else value)
                for name, value in list(os.environ.items())[:MOST_VARIABLES]
            },
        )

    def differs(self, here: Surroundings, besides: Iterable[str] = ()) -> str:
        """In what a client's are not the daemon's own, in words; "" where all is the same. besides: more variables."""
        if self.program != here.program:
            return f"it is another program: {here.program[0]} in {here.program[2]}, or one that was replaced since"
        if self.user != here.user or self.groups != here.groups:
            return "its user or its groups are others"
        if self.capabilities != here.capabilities:
            return "its capabilities are others"
        if self.encoding != here.encoding:
            return f"its encoding of the names of files is {here.encoding}, and here it is {self.encoding}"
        if self.niceness != here.niceness:
            return f"its niceness is {here.niceness}, and here it is {self.niceness}"
        if self.root != here.root or self.namespaces != here.namespaces:
            return "it is in another container, or has another root directory"
        if self.umask != here.umask:
            return f"its umask is {here.umask:04o}, and here it is {self.umask:04o}"
        names = {*self.variables, *here.variables}
        compared = {name for name in names if name in _COMPARED or name.startswith(_PREFIX)} | set(besides)
        others = sorted(name for name in compared if self.variables.get(name) != here.variables.get(name))
        return f"its environment has not the same {', '.join(others)}" if others else ""


def _hashed(nonce: bytes, value: str) -> str:
    return hmac.digest(nonce, os.fsencode(value), hashlib.sha256)[:HASH_BYTES].hex()


def _whole(value: str) -> str:
    """Paths, with the directory that relative ones begin in."""
    if not value:
        return value
    try:
        folder = Path.cwd()
    except OSError:  # it is gone
        return value
    parts = value.split(os.pathsep)
    return os.pathsep.join(part if part.startswith(("/", "~")) else f"{folder}/{part}" for part in parts)


def _status() -> dict[str, str]:
    """What the kernel says of this process: to ask the library for the umask is to change it for a moment."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _namespace(kind: str) -> str:
    try:
        return str(Path(f"/proc/self/ns/{kind}").readlink())
    except OSError:
        return ""

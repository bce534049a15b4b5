"""Who in a guest asks EC2's metadata service, and whether with tokens (IMDSv2); owns how that is told from their files.

Of what is written in Python its own source tells: who never names the place of tokens knows no token, whatever version
distributors call it (they have put IMDSv2 into old ones). Of EC2Launch its version tells. Of the others only that they
are there. AWS documents: "Transition to using Instance Metadata Service Version 2", "EC2Launch v1".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, Family
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles

TOKENS = b"latest/api/token"
EC2LAUNCH_SINCE = (1, 3, 2002730)
_CLOUD_INIT, _OFF = "/etc/cloud/cloud.cfg", "/etc/cloud/cloud-init.disabled"
_AGENT = "/usr/bin/amazon-ssm-agent"
_LAUNCH = "/ProgramData/Amazon/EC2-Windows/Launch/Module/Ec2Launch.psd1"
_CONFIG = "/Program Files/Amazon/Ec2ConfigService/Ec2Config.exe"
_PYTHON = re.compile(r"python[23](?:\.[0-9]{1,2})?")
_PACKAGES = ("dist-packages", "site-packages")
_VERSION = re.compile(rb"""__VERSION__ = ["']([0-9][0-9A-Za-z.~+-]{0,30})["']|StrictVersion\(["']([0-9.]{1,20})["']""")
_MODULE = re.compile(rb"ModuleVersion\s*=\s*['\"]([0-9.]{1,40})['\"]")


@dataclass(frozen=True, slots=True)
class _Client:
    """A client written in Python. source: the file that asks the metadata service. version: the one that says it."""

    name: str
    source: str
    version: str


_CLIENTS = (
    _Client("cloud-init", "cloudinit/sources/DataSourceEc2.py", "cloudinit/version.py"),
    _Client("botocore (awscli, boto3)", "botocore/utils.py", "botocore/__init__.py"),
)


def of_linux(files: GuestFiles, where: tuple[str, str], family: Family) -> list[BootFinding]:
    """Of a system's tree. where: (disk's ID, place) of its root."""
    out: list[BootFinding] = []
    present = files.head(_CLOUD_INIT, 1)
    if isinstance(present, bytes) and not isinstance(files.head(_OFF, 1), bytes):
        out += _asked(files, _CLIENTS[0], where, family)
    elif isinstance(present, Unknown):
        out.append(BootFinding(BootFindingKind.IMDS_UNKNOWN, *where, f"cloud-init: {present.why}", family))
    if isinstance(files.head("/usr/bin/aws", 1), bytes):
        out += _asked(files, _CLIENTS[1], where, family)
    if isinstance(files.head(_AGENT, 1), bytes):
        out.append(
            BootFinding(BootFindingKind.IMDS_UNKNOWN, *where, f"{_AGENT} is there, and its version is not read", family)
        )
    return out


def of_windows(files: GuestFiles, where: tuple[str, str]) -> list[BootFinding]:
    """Of a volume of Windows. where: (disk's ID, place)."""
    out = []
    module = files.read(_LAUNCH)
    if isinstance(module, bytes):
        found = _MODULE.search(module.replace(b"\0", b""))
        version = found[1].decode() if found else ""
        numbers = tuple(int(each or 0) for each in version.split("."))
        if not version:
            out.append(
                BootFinding(BootFindingKind.IMDS_UNKNOWN, *where, f"{_LAUNCH} does not say its version", Family.WINDOWS)
            )
        elif numbers < EC2LAUNCH_SINCE:
            out.append(BootFinding(BootFindingKind.IMDS_V1, *where, f"EC2Launch {version}", Family.WINDOWS))
    if isinstance(files.head(_CONFIG, 1), bytes):
        said = f"{_CONFIG} is there, and its version is not read"
        out.append(BootFinding(BootFindingKind.IMDS_UNKNOWN, *where, said, Family.WINDOWS))
    return out


def _asked(files: GuestFiles, client: _Client, where: tuple[str, str], family: Family) -> list[BootFinding]:
    """What is to be said of one client: nothing, where it knows tokens or is not there."""
    unread = ""
    for folder in _folders(files):
        if isinstance(folder, Unknown):
            unread = folder.why
            continue
        source = files.read(f"{folder}/{client.source}", most_bytes=MAX_FILE_BYTES)
        if isinstance(source, bytes):
            if TOKENS in source:
                return []
            says = files.head(f"{folder}/{client.version}", 4096)
            found = _VERSION.search(says) if isinstance(says, bytes) else None
            version = (found[1] or found[2]).decode() if found else "of no known version"
            return [
                BootFinding(
                    BootFindingKind.IMDS_V1, *where, f"{client.name} {version} ({folder}/{client.source})", family
                )
            ]
        unread = source.why if isinstance(source, Unknown) else unread
    return [BootFinding(BootFindingKind.IMDS_UNKNOWN, *where, f"{client.name}: {unread}", family)] if unread else []


def _folders(files: GuestFiles) -> Iterator[str | Unknown]:
    """Where distributors put what is written in Python."""
    names = files.names("/usr/lib")
    if isinstance(names, Unknown):
        yield names
    for name in sorted(names) if isinstance(names, list) else ():
        if name.endswith("/") and _PYTHON.fullmatch(name[:-1]):
            for folder in _PACKAGES:
                yield f"/usr/lib/{name}{folder}"

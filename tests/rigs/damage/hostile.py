"""Repositories that somebody else wrote into, made from a seed; and commands run on them with limits.

As a program it is a server: it imports warmspare once, and forks for each command that it reads as a line of JSON. The
command has a terminal, so that what would act on one shows.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20
SECONDS = 60.0
MEMORY_MIB = 256
CODES = frozenset({0, 2, 3, 4, 5, 6, 7, 8})
# What no terminal may get: commands to it but colours and the live display's own, and what turns a line around.
ACTING = re.compile(
    "\x1b\\]|\x1bc|\x1bP|\x1b\\[2J|\x1b\\[[0-9;]*[HfnR]|[\x80-\x9f]|[\u202a-\u202e\u2066-\u2069]|OWNED\r"
)
TEXTS = (
    "\x1b]0;OWNED\x07web",
    "\x1b[2J\x1b[1;1HOWNED",
    "\x9b2JOWNED",
    "a\u202eOWNED",
    "[/x]",
    "[link=file:///etc]x",
    ":fire:",
    "line\n  9-deadbeef  forged",
    "OWNED\rgone",
    "../../../../tmp/x",
    "/etc/passwd",
    "..",
    "",
    "x" * 100_000,
    "\u200b",
    "\ud800",
    "%s%n{0}{x}",
    "NaN",
)
VALUES: tuple[Any, ...] = (
    10**400,
    -1,
    0,
    1 << 63,
    1 << 64,
    -(1 << 70),
    1e308,
    1.5,
    True,
    None,
    [],
    {},
    [[[[1]]]],
    {"a": {"b": {}}},
    *TEXTS,
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ran. code: None where it had to be killed. rss_mib: at its most. seconds: of CPU."""

    code: int | None
    rss_mib: float
    seconds: float
    output: str

    def wrong(self) -> str:
        """What it did that it may not; "" for nothing."""
        if self.code is None:
            return f"it hung for {SECONDS:.0f} s"
        if self.code not in CODES:
            return f"its code is {self.code}"
        if "Traceback" in self.output or "this is a bug" in self.output:
            return "it ended in a bug"
        if self.rss_mib > MEMORY_MIB:
            return f"it took {self.rss_mib:.0f} MiB"
        if found := ACTING.search(self.output):
            return f"{found[0]!r} reached the terminal"
        return ""


class Runner:
    """The server, as those who ask it see it. Use it as a context manager."""

    def __enter__(self) -> Runner:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(30)

    def run(self, *arguments: object, home: Path) -> Ended:
        """home: its XDG directories and its working directory."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps({"arguments": [str(one) for one in arguments], "home": str(home)}) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))


# mutations


def _values(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON document."""
    if at:
        yield at
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _values(one, (*at, key))


def _field(path: Path, rng: random.Random) -> None:
    """Another value in the place of one."""
    record = json.loads(path.read_bytes())
    at = rng.choice(list(_values(record)))
    holder = record
    for key in at[:-1]:
        holder = holder[key]
    if rng.random() < 0.15:
        del holder[at[-1]]
    else:
        holder[at[-1]] = rng.choice(VALUES)
    path.write_text(json.dumps(record))


def _hardware(path: Path, rng: random.Random) -> None:
    record = json.loads(path.read_bytes())
    names = ("cpus", "memory_mib", "firmware", "nics", "unknown", "identity", "events", "snapshots", "disks", "taken")
    names += ("request_id",)
    record["hardware"] = {name: rng.choice(VALUES) for name in rng.sample(names, 3)}
    path.write_text(json.dumps(record))


def _text(path: Path, rng: random.Random) -> None:
    """JSON that is none, or more than it should be."""
    data = path.read_bytes()
    which = rng.randrange(7)
    if which == 0:
        data = data[: rng.randrange(len(data))]
    elif which == 1:
        data = b"[" * 200_000
    elif which == 2:
        data = data.rstrip()[:-1] + b', "deep": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}"
    elif which == 3:
        data = data.rstrip()[:-1] + b", " + data.split(b",")[0].lstrip(b"{ \n") + b"}"  # its first key twice
    elif which == 4:
        data = b"{" + b'"a":[' + b"[]," * 1_300_000 + b"[]]}"
    elif which == 5:
        data = re.sub(rb": [0-9]+", b": NaN", data, count=1)
    else:
        data = data.replace(b'"', b"\xff", 1)
    path.write_bytes(data)


def _bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 8, 64))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    elif rng.random() < 0.2:
        data += rng.randbytes(rng.randrange(1, 5000))
    path.write_bytes(data)


def _other(path: Path, rng: random.Random) -> None:
    """Something else than a file stands there."""
    path.unlink()
    which = rng.randrange(8)
    if which == 0:
        os.mkfifo(path)
    elif which == 1:
        path.symlink_to(rng.choice(("/etc/passwd", "/dev/zero", str(path), "../../..", "/dev/tty")))
    elif which == 2:
        path.mkdir()
    elif which == 3:
        with socket.socket(socket.AF_UNIX) as made, contextlib.suppress(OSError):  # a path may be too long for one
            made.bind(os.path.relpath(path))
    elif which == 4 and os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # as endless as /dev/zero
    elif which == 5:
        path.write_bytes(b"")
    elif which == 6:
        with path.open("wb") as file:
            file.truncate(1 << 40)
        os.utime(path, (rng.choice((0, 4e9, 1e11)),) * 2)


def _folder(path: Path, rng: random.Random) -> None:
    """A folder is a link, round in a circle or to elsewhere."""
    folder = path.parent
    away = folder.with_name("away")
    folder.rename(away)
    folder.symlink_to(rng.choice((str(away), "..", "/proc", ".")))


def _strangers(path: Path, rng: random.Random) -> None:
    """Names that nobody of ours gives, beside an object."""
    names = ("a\x1b[2J", "x" * 200, "=2E=2E", "loop", "0000000009.json", "9999999999.json", "lost+found")
    for name in rng.sample(names, 3):
        place = path.parent / name
        if name == "loop":
            place.symlink_to(".")
        elif name.endswith(".json"):
            place.write_bytes(path.read_bytes())
        else:
            place.mkdir(exist_ok=True)


def _signed(repository: Path, path: Path, rng: random.Random) -> None:
    """A manifest that is damaged, and a record that states the damage as right: only its decoder can tell."""
    _bytes(path, rng)
    data = path.read_bytes() or b"\0"
    path.write_bytes(data)
    for point in sorted(each for each in repository.glob("vms/*/points/*.json") if each.is_file()):
        record = json.loads(point.read_bytes())
        for disk in record["disks"]:
            if (repository / disk["manifest"]["key"]) == path:
                disk["manifest"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                point.write_text(json.dumps(record))


LEASE = {
    "boot_id": "0",
    "free": False,
    "host": "h",
    "pid": 4,
    "pid_namespace": "p",
    "process_start": 5,
    "renewed": 0,
    "token": "ab",
    "ttl_s": 60.0,
}


def mutate(repository: Path, seed: int) -> str:
    """Change a repository in one to three ways; what was done, for messages."""
    rng, done, real = random.Random(seed), [], repository.resolve()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if repository.is_symlink():  # what is behind it now is somebody else's
            break
        files = sorted(path for path in repository.rglob("*") if path.is_file() and not path.is_symlink())
        files = [path for path in files if path.resolve().is_relative_to(real) and path.stat().st_size]
        if not files:
            break
        records = [path for path in files if path.suffix == ".json"]
        points = [path for path in records if path.parent.name == "points"]
        manifests = [path for path in files if path.suffix == ".manifest"]
        kinds: list[tuple[Callable[..., None], list[Path]]] = [
            (_field, records),
            (_field, records),
            (_field, records),
            (_hardware, points),
            (_text, records),
            (_bytes, files),
            (_other, files),
            (_folder, files),
            (_strangers, files),
            (_signed, manifests),
            (_lease, records),
        ]
        change, among = rng.choice(kinds)
        if not among:
            continue
        path = rng.choice(among)
        done.append(f"{change.__name__} {path.relative_to(repository)}")
        with contextlib.suppress(ValueError, LookupError, TypeError, OSError, RecursionError):  # it was changed before
            change(*([repository] if change is _signed else []), path, rng)
    return f"seed {seed}: {'; '.join(done)}"


def _lease(path: Path, rng: random.Random) -> None:
    folder = next((one for one in path.parents if one.parent.name == "vms"), None)
    if folder is not None:
        lease = LEASE | {rng.choice(list(LEASE)): rng.choice(VALUES)}
        (folder / rng.choice(("lease.json", "failover.json"))).write_text(json.dumps(lease))


def commands(repository: Path, work: Path, disk: Path) -> list[list[object]]:
    """What reads a repository. work: a directory of their own, with an empty repository `copy`."""
    return [
        ["points", "--repo", repository],
        ["apply", "--vm", "vm", "--repo", repository, "--to", work / "replica.raw"],
        ["audit", "repository", "--repo", repository, "--deep", "--reports", work / "reports"],
        ["copy", "--from", repository, "--to", work / "copy"],
        ["plan", disk, "--vm", "vm", "--repo", repository, "--state", work / "state"],
        ["recover", "check", "--vm", "vm", "--repo", repository],
        ["points", "--repo", repository, "--json"],
        ["prune", "--repo", repository, "--vm", "vm"],
    ]


@contextlib.contextmanager
def mutated(base: Path, home: Path, seed: int) -> Iterator[tuple[Path, str]]:
    """A mutated copy of a repository, and what was done to it."""
    repository = home / f"mutated{seed}"
    shutil.copytree(base, repository)
    try:
        yield repository, mutate(repository, seed)
    finally:
        if repository.is_symlink():
            repository.unlink()
        for left in (repository, home / "away"):
            shutil.rmtree(left, ignore_errors=True)


# the server


def _child(arguments: list[str], home: str, terminal: int) -> None:
    os.setsid()
    for fd in (1, 2):
        os.dup2(terminal, fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(XDG_STATE_HOME=f"{home}/xdg", HOME=home, TERM="xterm", COLUMNS="120")
    os.chdir(home)
    sys.stdout, sys.stderr = open(1, "w", encoding="utf-8"), open(2, "w", encoding="utf-8")  # noqa: SIM115
    sys.argv = ["warmspare", *arguments]
    from warmspare.cli.main import main

    try:
        main()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(1)


def _serve() -> None:
    import warmspare.audit.repository.deep.scan
    import warmspare.audit.repository.repository_audit
    import warmspare.cli.commands.apply
    import warmspare.cli.commands.copy
    import warmspare.cli.commands.sync
    import warmspare.cli.telling.terminal
    import warmspare.engine.engine_runs
    import warmspare.engine.requests.audit_requests
    import warmspare.engine.requests.drill_requests
    import warmspare.engine.requests.replica_requests
    import warmspare.engine.requests.repository_requests
    import warmspare.engine.requests.sync_requests
    import warmspare.engine.wiring.readable_disks
    import warmspare.recover.readiness.check
    import warmspare.retain.removal
    import warmspare.sync.sender  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        ours, theirs = os.openpty()
        pid = os.fork()
        if not pid:
            os.close(ours)
            _child(asked["arguments"], asked["home"], theirs)
        os.close(theirs)
        said, deadline, killed = bytearray(), time.monotonic() + SECONDS, False
        while True:
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                if killed:
                    break  # something that it started has the terminal still
                killed = True
                os.killpg(pid, signal.SIGKILL)
                deadline += 5
                continue
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # nobody has the terminal any more
                break
            if len(said) < MIB:
                said += data
        _, status, used = os.wait4(pid, 0)
        os.close(ours)
        ended: dict[str, Any] = {
            "code": None if killed else os.waitstatus_to_exitcode(status),
            "rss_mib": used.ru_maxrss / 1024,
            "seconds": used.ru_utime + used.ru_stime,
            "output": said.decode(errors="replace"),
        }
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve()

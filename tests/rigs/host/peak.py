"""How much memory a command takes at most, with all that it starts; sampled, from /proc. Also for benchmarks."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigs.host.hearing import checked

SAMPLE_S = 0.02
FIELDS = ("RssAnon", "RssShmem", "RssFile")


class CommandError(RuntimeError):
    """A command failed; the message is one sentence with its last words."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Highest sampled sums over a process tree in bytes, its run time and how often it was sampled."""

    counted_bytes: int
    file_bytes: int
    processes: int
    samples: int
    wall_s: float
    event: dict[str, Any]


def measure(command: list[str], done: str) -> Peak:
    """Run a command and sample its process tree until it ends. Raises CommandError where it fails."""
    counted = file = processes = samples = 0
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command, stdout=out, stderr=err)
        while child.poll() is None:
            tree = process_tree(child.pid)
            usage = [memory_of(pid) for pid in tree]
            counted = max(counted, sum(each["RssAnon"] + each["RssShmem"] for each in usage))
            file = max(file, sum(each["RssFile"] for each in usage))
            processes, samples = max(processes, len(tree)), samples + 1
            time.sleep(SAMPLE_S)
        wall_s = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        events = list(parse_events(out.read()))
        if child.returncode:
            said = " / ".join(err.read().decode(errors="replace").strip().splitlines()[-3:])
            raise CommandError(f"`{' '.join(command)}` ended with {child.returncode}: {said}")
    last: dict[str, Any] = next((event for event in reversed(events) if event.get("event") == done), {})
    return Peak(counted, file, processes, samples, wall_s, last)


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants that are alive now, by everybody's parent: not every kernel lists children."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended between two looks
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def memory_of(pid: int) -> dict[str, int]:
    """RssAnon, RssShmem and RssFile of one process in bytes; zeros once it is gone."""
    usage = dict.fromkeys(FIELDS, 0)
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return usage
    for line in lines:
        name, _, value = line.partition(":")
        if name in usage:
            usage[name] = int(value.split()[0]) * 1024
    return usage


def parse_events(out: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among the lines of an output, in order; other lines are passed over."""
    for line in out.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield checked(event)

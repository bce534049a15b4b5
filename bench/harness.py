"""Owns how a bench measures: child processes, their cost, alternating order, the report. Knows no question.

Both sides of a comparison run as child processes and end when their files are on the disk: after the child
has ended, every file and directory it left is fsynced inside the measured time (nearly free for a program
that did it itself). The source is read once before, so no side pays for a cold cache, and nothing is ever
dropped from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # for all that is measured here: images, servers, stand-ins

from rigs.host.peak import CommandError, parse_events  # noqa: E402
from rigs.images import data, diff, ext4  # noqa: E402


@dataclass(frozen=True, slots=True)
class Run:
    """One measured child: wall and CPU seconds (with its children's) and its JSON events.

    wait4's peak RSS is left out: Linux counts what the forking parent had, so it would be this harness's own.
    rigs/host/peak.py samples instead.
    """

    wall_s: float
    user_s: float
    system_s: float
    events: list[dict[str, Any]]

    def event(self, name: str) -> dict[str, Any]:
        """The last event of that name. Raises BenchError where the program never said it."""
        for event in reversed(self.events):
            if event.get("event") == name:
                return dict(event)
        raise BenchError(f"the program ended well but printed no {name} event")


class BenchError(RuntimeError):
    """A program under measurement is missing or failed; the message is one sentence with its last words."""


def parser(text: str | None, *, runs: int = 3, mb: int = 2048) -> argparse.ArgumentParser:
    """The options every bench has."""
    options = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=runs, help=f"measured runs of each side ({runs})")
    options.add_argument("--mb", type=int, default=mb, help=f"MiB of content, or of buffer ({mb})")
    options.add_argument("--dir", type=Path, default=HERE / "data", help="where data is built (bench/data)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--keep", action="store_true", help="keep the run's stores and replicas")
    options.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options.add_argument("--warmspare", help="the command to measure (default: the one beside this Python)")
    return options


def warmspare(options: argparse.Namespace) -> list[str]:
    """The command under measurement. Raises BenchError where it is not installed."""
    if options.warmspare:
        return str(options.warmspare).split()
    beside = Path(sys.executable).parent / "warmspare"
    found = str(beside) if beside.exists() else shutil.which("warmspare")
    if found is None:
        raise BenchError("the warmspare command is not installed: run `make` first, or name it with --warmspare")
    return [found]


def program(name: str, package: str) -> str:
    """The path of a peer program. Raises BenchError naming the Debian package where it is missing."""
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is missing: install the Debian package {package}")
    return found


def run(command: Sequence[str], *, durable: Sequence[Path] = ()) -> Run:
    """Run a command to its end and until everything below `durable` is on the disk.

    Standard output is read as JSON Lines where it is JSON. Cost is what wait4 reports for the child and those
    it waited for. Raises BenchError where it ends with anything but 0.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        out, err = _drain(child)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    for path in durable:
        sync_tree(path)
    wall_s = time.perf_counter() - started
    if child.returncode:
        said = " / ".join((err or out).decode(errors="replace").strip().splitlines()[-3:])
        raise BenchError(f"`{' '.join(command)}` ended with {child.returncode}: {said}")
    return Run(wall_s, usage.ru_utime, usage.ru_stime, list(parse_events(out)))


def begin(command: Sequence[str], repo: Path) -> list[str]:
    """Make a repository where none is; what the first sync to it is told."""
    run([*command, "init", str(repo), "--json"])
    return ["--new"]


def alternate(runs: int, sides: dict[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    """Run the sides in turn, A B A B, so that a slow minute of the machine falls on all of them alike."""
    done: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            done[name].append(side())
            print(f"  {name}: {done[name][-1].wall_s:.2f} s", file=sys.stderr)
    return done


def summary(runs: list[Run]) -> dict[str, Any]:
    """Medians of several runs, with every wall time beside them."""
    return {
        "wall_s": statistics.median(run.wall_s for run in runs),
        "cpu_s": statistics.median(run.user_s + run.system_s for run in runs),
        "all_wall_s": [round(run.wall_s, 4) for run in runs],
    }


def sync_tree(path: Path) -> None:
    """fsync a file or all that is below a directory, and its parent; a missing path is nothing."""
    if not path.exists():
        return
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    for each in [*paths, path.parent]:
        if each.is_symlink() or not (each.is_file() or each.is_dir()):
            continue
        fd = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def warm(path: Path) -> None:
    """Read a file's data once, holes left out, so that it lies in the page cache if it fits there."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, length in diff.data_runs(fd, os.fstat(fd).st_size):
            for at in range(start, start + length, 8 << 20):
                os.pread(fd, min(8 << 20, start + length - at), at)
    finally:
        os.close(fd)


def image(options: argparse.Namespace) -> Path:
    """The bench image for --mb and --seed: built once, in four times its content, and kept for later runs."""
    options.dir.mkdir(parents=True, exist_ok=True)
    path: Path = options.dir / f"real-{options.mb}-{options.seed}.raw"
    if not path.exists():
        print(f"building {path} …", file=sys.stderr)
        building = path.with_suffix(".building")
        data.build_image(building, content_mb=options.mb, image_mb=options.mb * 4, seed=options.seed)
        sync_tree(building)
        building.rename(path)
    return path


@contextmanager
def scratch(options: argparse.Namespace, name: str) -> Iterator[Path]:
    """A directory of the run's own below --dir, removed at the end unless --keep is given."""
    path: Path = options.dir / f"{name}-{os.getpid()}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        if options.keep:
            print(f"kept {path}", file=sys.stderr)
        else:
            shutil.rmtree(path)


def fresh(path: Path) -> Path:
    """Remove a file or directory if it is there; returns the path."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def machine(directory: Path) -> dict[str, str]:
    """What the figures were measured on: processor, cores, memory, kernel, the data's file system, Python."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "unknown")
    memory_kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if "MemTotal" in line), 0)
    return {
        "cpu": cpu,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kib / (1 << 20):.1f} GiB",
        "kernel": platform.release(),
        "file system": _file_system(directory),
        "python": platform.python_version(),
    }


def report(options: argparse.Namespace, question: str, setting: dict[str, Any], figures: list[dict[str, Any]]) -> None:
    """Print question, machine, setting and figures; `figures` are rows with the same or different keys."""
    whole = {"question": question, "machine": machine(options.dir), "setting": setting, "figures": figures}
    if options.json:
        print(json.dumps(whole))
        return
    print(question)
    for title, block in (("machine", machine(options.dir)), ("setting", setting)):
        print(f"{title}: " + "; ".join(f"{key}: {value}" for key, value in block.items()))
    for row in figures:
        print("  " + "  ".join(f"{key}={_plain(value)}" for key, value in row.items()))


def main(bench: Callable[[], None]) -> None:
    """Run a bench; one sentence and exit code 2 where it can't be measured here."""
    try:
        bench()
    except (BenchError, CommandError, ext4.ToolError, ValueError, OSError, NotImplementedError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def _drain(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    # communicate() would reap the child itself, and wait4's usage would be lost; so both pipes are read here.
    err: list[bytes] = []
    assert child.stdout is not None and child.stderr is not None
    stderr = child.stderr
    reader = threading.Thread(target=lambda: err.append(stderr.read()))
    reader.start()
    out = child.stdout.read()
    reader.join()
    return out, b"".join(err)


def _file_system(directory: Path) -> str:
    """Type of the file system a directory lies on, by the longest matching mount point."""
    best, kind = "", "unknown"
    where = str(directory.resolve()) + "/"
    for line in _lines("/proc/self/mounts"):
        _, mount, type_, *_ = line.split()
        if where.startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, type_
    return kind


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _plain(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

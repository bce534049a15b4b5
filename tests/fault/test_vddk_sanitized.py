"""AddressSanitizer over binding, ring and stand-in at once: errors, retries and lies touch no wrong byte."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import warmspare
from rigs.paths import BUILD

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("ring", "vddk")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FLAGS = ["-shared", "-fPIC", "-O1", "-g", "-std=c11", "-D_GNU_SOURCE", "-fsanitize=address", "-fno-omit-frame-pointer"]


def compiled() -> Path:
    """The two extensions, sanitized; compiled where their sources or the compilers are new. Safe at the same time."""
    versions = [subprocess.run(["gcc", "--version"], capture_output=True, check=True).stdout, sys.version.encode()]
    digest = hashlib.sha256(b"\0".join([*versions, version("cython").encode(), " ".join(FLAGS).encode()]))
    for path in sorted((ROOT / "ext").rglob("*.[ph]*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    folder = BUILD / "sanitized" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in NAMES:
            source, binary = folder / f"{name}.c", folder / f"{name}{SUFFIX}"
            if binary.exists():
                continue
            cython = [sys.executable, "-m", "cython", "-3", ROOT / "ext" / f"{name}.pyx", "-o", source]
            subprocess.run(cython, check=True, capture_output=True)
            made = binary.with_suffix(".new")
            includes = [f"-I{ROOT / 'ext'}", f"-I{sysconfig.get_paths()['include']}"]
            subprocess.run(["gcc", *FLAGS, *includes, source, "-o", made], check=True, capture_output=True)
            made.rename(binary)
    return folder


def build(target: Path) -> None:
    """A copy of the package with the two extensions sanitized."""
    package, made = target / "warmspare", compiled()
    shutil.copytree(Path(warmspare.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in NAMES:
        binary = package / "_native" / f"{name}{SUFFIX}"
        binary.unlink()
        shutil.copy(made / binary.name, binary)


def test_no_wrong_byte_is_touched(tmp_path: Path) -> None:
    build(tmp_path / "package")
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    home, reports = tmp_path / "world", tmp_path / "reports"
    home.mkdir()
    reports.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(Path(library).resolve()),
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={reports}/asan",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path / "package", ROOT / "tests"))),
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sanitized.py"), home],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = "\n".join(path.read_text()[:3000] for path in sorted(reports.iterdir()))
    assert not found, found
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ReadAsync" in done.stdout and "QueryAllocatedBlocks" in done.stdout

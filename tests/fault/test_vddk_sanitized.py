"""AddressSanitizer over binding, ring and stand-in at once: errors, retries and lies touch no wrong byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import warmspare

ROOT = Path(__file__).resolve().parents[2]


def build(target: Path) -> None:
    """A copy of the package with the two extensions compiled anew, sanitized."""
    package = target / "warmspare"
    shutil.copytree(Path(warmspare.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in ("ring", "vddk"):
        source, binary = target / f"{name}.c", package / "_native" / f"{name}{suffix}"
        cython = [sys.executable, "-m", "cython", "-3", ROOT / "ext" / f"{name}.pyx", "-o", source]
        subprocess.run(cython, check=True, capture_output=True)
        binary.unlink()
        subprocess.run(
            [
                "gcc",
                "-shared",
                "-fPIC",
                "-O1",
                "-g",
                "-std=c11",
                "-D_GNU_SOURCE",
                "-fsanitize=address",
                "-fno-omit-frame-pointer",
                f"-I{ROOT / 'ext'}",
                f"-I{sysconfig.get_paths()['include']}",
                source,
                "-o",
                binary,
            ],
            check=True,
            capture_output=True,
        )


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

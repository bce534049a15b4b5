"""Man pages are what the tables print, and roff takes them; pip puts what is below share/ where it is looked for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from rigs.paths import PROJECT
from warmspare.cli.command_parser import fields_of
from warmspare.cli.command_table import COMMANDS, command, options_of
from warmspare.cli.manual import PAGES, main, page_name, pages, roff

SHARE = PROJECT / "share"


def test_the_pages_are_printed_from_the_tables() -> None:
    """Otherwise: `python -m warmspare.cli.manual .`"""
    there = {path.name: path.read_text(encoding="ascii") for path in (PROJECT / PAGES).iterdir()}
    assert there == pages(PROJECT)
    assert set(there) == {"warmspare.1"} | {page_name(name) + ".1" for name in COMMANDS}


def test_what_is_no_page_any_more_goes(tmp_path: Path) -> None:
    (tmp_path / PAGES).mkdir(parents=True)
    (tmp_path / PAGES / "warmspare-gone.1").touch()
    (tmp_path / "docs").mkdir()
    shutil.copy(PROJECT / "docs" / "operations.md", tmp_path / "docs")
    main(tmp_path)
    assert sorted(path.name for path in (tmp_path / PAGES).iterdir()) == sorted(pages(PROJECT))


def test_each_option_and_each_exit_code_stands_in_its_page() -> None:
    there = pages(PROJECT)
    for name in COMMANDS:
        page = there[page_name(name) + ".1"]
        for field in fields_of(options_of(command(name))):
            for flag in field.option.flags:
                assert f"\\fB{roff(flag)}\\fR" in page, (name, flag)
    codes = re.findall(r"^\.TP\n\\fB(\d+)\\fR$", there["warmspare.1"], re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "130"]


@pytest.mark.program
@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_roff_takes_them_and_prints_what_was_meant() -> None:
    for name, text in pages(PROJECT).items():
        assert max(len(line) for line in text.splitlines() if not line.startswith(".")) <= 80, name
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=1000n"], input=text, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        said = " ".join(done.stdout.split())
        if name == "warmspare-points.1":
            assert "warmspare-points - list restore points" in said and "--vm NAME" in said
        if name == "warmspare-sync.1":
            assert "Lines of `offset length` in bytes" in said and "vddk:///PATH reads through VDDK" in said


@pytest.mark.program
@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_mandoc_has_nothing_to_say() -> None:
    files = [str(path) for path in (PROJECT / PAGES).iterdir()]
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *files], capture_output=True, text=True)
    assert done.stdout == "" and done.returncode == 0, done.stdout


def data_files() -> dict[str, str]:
    """Where pip puts each file below share/, as pyproject.toml has it."""
    given = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    return {
        path.relative_to(PROJECT).as_posix(): f"{folder}/{path.name}"
        for folder, patterns in given.items()
        for pattern in patterns
        for path in PROJECT.glob(pattern)
    }


def test_all_below_share_is_installed_where_it_lies() -> None:
    there = {path.relative_to(PROJECT).as_posix() for path in SHARE.rglob("*") if path.is_file()}
    assert data_files() == {name: name for name in there} and len(there) > 20


@pytest.mark.slow
@pytest.mark.program
def test_a_wheel_of_the_source_distribution_puts_it_there(tmp_path: Path) -> None:
    """As `pip install` does into a fresh prefix."""
    copy = tmp_path / "copy"
    left_out = shutil.ignore_patterns(".venv", ".git", "build", "*.egg-info", "*.so", "__pycache__", ".*_cache", "data")
    shutil.copytree(PROJECT, copy, ignore=left_out)
    make = "import sys; from setuptools import build_meta as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"

    def made(kind: str, sources: Path) -> Path:
        line = [sys.executable, "-c", make, kind, str(tmp_path)]
        done = subprocess.run(line, cwd=sources, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return tmp_path / done.stdout.split()[-1]

    with tarfile.open(made("sdist", copy)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [sources] = (tmp_path / "unpacked").iterdir()
    wheel = made("wheel", sources)
    assert any(name.endswith("data/share/man/man1/warmspare.1") for name in zipfile.ZipFile(wheel).namelist())
    prefix = tmp_path / "prefix"
    line = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--ignore-installed",
        "--prefix",
        str(prefix),
        str(wheel),
    ]
    subprocess.run(line, check=True)  # without --ignore-installed pip would take away what these tests run
    for name, place in data_files().items():
        assert (prefix / place).read_bytes() == (PROJECT / name).read_bytes(), name

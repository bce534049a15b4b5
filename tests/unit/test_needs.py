"""Which tests count as such that need Go, QEMU, a browser or root, and that one which does not say so fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigs.paths import TESTS
from suite import needs

TEXT = """
import shutil
import pytest
import bootdisk
from fakesite import Site
from rigs.host import media
from siterig import SiteRig as Rig

CONVERT = ("qemu-img", "convert")

@pytest.fixture
def made(tmp_path):
    with Site(tmp_path) as site:
        yield site

def _full(place):
    with media.tmpfs(place):
        pass

def test_by_a_fixture(made): pass

def test_by_a_helper_of_another_module(place): _full(place)

def test_by_a_class_under_another_name(): Rig

def test_by_a_value(): run(*CONVERT)

def test_by_a_program(): bootdisk.run("qemu-system-x86_64")

def test_by_a_drill(rig): rig.run("drill", "--vm", "x")

def test_of_a_drill_in_ec2(rig): rig.run("drill", "--vm", "x", "--ec2")

def test_of_nothing(made_of, mount): assert made_of == "mount" != shutil.go
"""


def test_by_what_they_use(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(TEXT)

    def of(name: str) -> set[str]:
        return set(needs.needs_of(path, f"test_{name}"))

    assert of("by_a_fixture") == of("by_a_class_under_another_name") == {"go"}
    assert of("by_a_helper_of_another_module") == {"root"}
    assert of("by_a_value") == of("by_a_program") == of("by_a_drill") == {"qemu"}
    assert not of("of_a_drill_in_ec2") and not of("of_nothing")


@pytest.mark.parametrize(
    "test, said",
    [
        ("vcenter/test_tags.py::test_vms_by_tag", {"go"}),
        ("e2e/test_drill.py::test_a_replica_boots_and_stays_as_it_is", {"qemu"}),
        ("e2e/test_audit_page.py::test_the_map_shows_what_was_planted", {"browser"}),
        ("fault/test_netns.py::test_rates_and_counters", {"root"}),
        ("unit/test_merge.py::test_nothing_stays_and_nothing_comes", set()),
    ],
)
def test_of_this_suite(test: str, said: set[str]) -> None:
    path, _, name = test.partition("::")
    assert needs.needs_of(TESTS / path, name) == said


def test_what_was_started_and_not_said_is_told(request: pytest.FixtureRequest) -> None:
    needs.begin()
    try:
        needs._note("subprocess.Popen", ("/usr/bin/qemu-img", [], None, None))
        needs._note("subprocess.Popen", ("/bin/true", [], None, None))
        (told,) = needs.unsaid(request.node)
        assert told.startswith("qemu-img was started") and "`qemu`" in told
        request.node.add_marker("qemu")
        assert not needs.unsaid(request.node)
    finally:
        needs.begin()

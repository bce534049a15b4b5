"""examples/systemd: units that systemd takes, and what it would run, run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

from examples.programs import AGAIN, EXAMPLES, INSTALLED, PERSON, Programs
from siterig import SiteRig

UNITS = EXAMPLES / "systemd"
SLOT = r"systemd \d{4}-\d\d-\d\dT\d\d:\d\dZ"


def unit(name: str) -> dict[str, list[str]]:
    """Its settings, all sections together: no name stands in two."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (UNITS / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


class Service:
    """warmspare.service as systemd treats it: tries, and the directory that lasts over them."""

    def __init__(self, home: Path, programs: Programs, environment: dict[str, str] | None = None) -> None:
        self.unit, self.programs = unit("warmspare.service"), programs
        self.runtime = home / "run"
        self.environment = {**os.environ, **(environment or {}), "RUNTIME_DIRECTORY": str(self.runtime)}

    def _run(self, key: str) -> int:
        [line] = self.unit[key]
        words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]
        words = [word.replace(INSTALLED, str(self.programs.warmspare)) for word in words]
        return subprocess.run(words, env=self.environment, capture_output=True, check=False).returncode

    def start(self) -> int:
        """One slot of the timer; the code of its last try."""
        assert self.unit["Restart"] == ["on-failure"] and self.unit["RuntimeDirectoryPreserve"] == ["restart"]
        never = {int(word) for word in self.unit["RestartPreventExitStatus"][0].split()}
        self.runtime.mkdir()
        try:
            for _ in range(int(self.unit["StartLimitBurst"][0])):
                assert self._run("ExecStartPre") == 0
                code = self._run("ExecStart")
                if code == 0 or code in never:
                    break
            return code
        finally:
            shutil.rmtree(self.runtime)


def test_systemd_takes_them() -> None:
    paths = sorted(UNITS.iterdir())
    assert {path.suffix for path in paths} == {".service", ".timer"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    [when] = unit("warmspare.timer")["OnCalendar"]
    told = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True, check=True).stdout
    assert "Normalized form: *-*-* *:00/15:00" in told


def test_systemd_would_find_a_mistake(tmp_path: Path) -> None:
    text = (UNITS / "warmspare.service").read_text()
    for right, wrong in (("Restart=on-failure", "Restart=sometimes"), ("Type=oneshot", "Type=oneshot\nUsr=x")):
        path = tmp_path / "warmspare.service"
        path.write_text(text.replace(right, wrong))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
        )
        assert done.returncode or done.stderr


def test_what_wants_a_person_is_not_tried_again(tmp_path: Path, programs: Programs) -> None:
    service = Service(tmp_path, programs)
    for code in AGAIN:
        programs.ends(code, code)
        assert service.start() == 0
        [name] = {re.fullmatch(f"sync --all --request-id ({SLOT})", call)[1] for call in programs.calls()}
        assert name and len(programs.calls()) == 3
        programs.ends(*[code] * 9)
        assert service.start() == code and len(programs.calls()) == 4
    for code in PERSON:
        programs.ends(code)
        assert service.start() == code and len(programs.calls()) == 1


def test_a_retry_makes_no_second_point(tmp_path: Path, programs: Programs, site: SiteRig) -> None:
    programs.loses_an_answer()
    programs.program("date", '#!/bin/sh\necho "systemd $SLOT"\n')
    vm = site.vms["web1"]
    for number, slot in enumerate(("2026-01-02T03:15Z", "2026-01-02T03:30Z"), 1):
        path = f"{programs.folder}:{os.environ['PATH']}"
        environment = {"WARMSPARE_CONFIG": str(site.config), "SLOT": slot, "PATH": path}
        assert Service(tmp_path, programs, environment).start() == 0
        assert site.sequences(vm) == list(range(1, number + 1))
        assert site.point(vm).request_id == f"systemd {slot}"
    assert len(programs.calls()) == 3

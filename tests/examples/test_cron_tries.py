"""examples/cron: a table that cron takes, and the script that tries again, run as cron would."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess

from cronsim import CronSim

from examples.programs import AGAIN, EXAMPLES, PERSON, Programs
from siterig import SiteRig

TABLE, TRIES = EXAMPLES / "cron" / "warmspare", EXAMPLES / "cron" / "warmspare-tries"
SLOT = r"cron \d{4}-\d\d-\d\dT\d\d:\d\dZ"


def table() -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Settings, and of each line when, who and what, as cron reads a file of /etc/cron.d: a percent sign behind a
    backslash is one, any other ends the command."""
    text = TABLE.read_text()
    assert text.endswith("\n"), "cron takes no last line without its end"
    settings: dict[str, str] = {}
    entries = []
    for line in text.splitlines():
        if setting := re.fullmatch(r"([A-Z_]+)=(\S+)", line):
            settings[setting[1]] = setting[2]
        elif line and not line.startswith("#"):
            *when, user, command = line.split(None, 6)
            assert not re.search(r"(?<!\\)%", command)
            entries.append((" ".join(when), user, command.replace("\\%", "%")))
    return settings, entries


class Cron:
    """Runs the one line, with programs of the test before those that it would find."""

    def __init__(self, programs: Programs, **environment: str) -> None:
        settings, [(_, _, self.command)] = table()
        assert settings["SHELL"] == "/bin/sh"
        shutil.copy(TRIES, programs.folder)
        programs.program("sleep", f'#!/bin/sh\necho "$1" >>"{programs.folder}/slept"\n')
        (programs.folder / "slept").write_text("")
        self.programs = programs
        path = f"{programs.folder}:{settings['PATH']}"
        self.environment = {"HOME": os.environ["HOME"], **settings, "PATH": path, **environment}

    def run(self) -> subprocess.CompletedProcess[str]:
        words = ["/bin/sh", "-c", self.command]
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)

    def slept(self) -> list[int]:
        return [int(line) for line in (self.programs.folder / "slept").read_text().split()]


def test_cron_takes_it() -> None:
    settings, [(when, user, command)] = table()
    assert settings["PATH"].startswith("/opt/warmspare/bin:") and user == "warmspare"
    assert command.split()[0] == TRIES.name and os.access(TRIES, os.X_OK)
    slots = CronSim(when, datetime.datetime(2026, 1, 2, 3, 50, tzinfo=datetime.UTC))
    assert [f"{next(slots):%d %H:%M}" for _ in range(3)] == ["02 04:00", "02 04:15", "02 04:30"]
    subprocess.run(["sh", "-n", TRIES], check=True)


def test_what_wants_a_person_is_not_tried_again(programs: Programs) -> None:
    """What is said comes once, as mail, and only of what stayed wrong."""
    cron = Cron(programs)
    for code in AGAIN:
        programs.ends(code, code)
        done = cron.run()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        [name] = {re.fullmatch(f"sync --all --request-id ({SLOT})", call)[1] for call in programs.calls()}
        assert name and len(programs.calls()) == 3
        programs.ends(*[code] * 9)
        done = cron.run()
        assert done.returncode == code and len(programs.calls()) == 4 and done.stderr.count("it went wrong") == 1
    assert cron.slept() == [30, 60, 30, 60, 120] * len(AGAIN)
    for code in PERSON:
        programs.ends(code)
        done = cron.run()
        assert done.returncode == code and len(programs.calls()) == 1 and "it went wrong" in done.stderr
    assert cron.slept() == [30, 60, 30, 60, 120] * len(AGAIN)


def test_a_retry_makes_no_second_point(programs: Programs, site: SiteRig) -> None:
    programs.loses_an_answer()
    programs.program("date", '#!/bin/sh\necho "$SLOT"\n')
    vm = site.vms["web1"]
    for number, slot in enumerate(("2026-01-02T03:15Z", "2026-01-02T03:30Z"), 1):
        done = Cron(programs, SLOT=slot, WARMSPARE_CONFIG=str(site.config)).run()
        assert done.returncode == 0, done.stderr
        assert site.sequences(vm) == list(range(1, number + 1))
        assert site.point(vm).request_id == f"cron {slot}"
    assert len(programs.calls()) == 3

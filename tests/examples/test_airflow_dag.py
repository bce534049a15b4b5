"""examples/airflow: the DAG under Airflow itself, in an environment of its own, against a fake site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.programs import AGAIN, EXAMPLES, PERSON, Programs
from siterig import SiteRig

FOLDER = EXAMPLES / "airflow"
CONSTRAINTS = FOLDER / "constraints.txt"

pytestmark = pytest.mark.slow

# A task that is ended from outside while its command runs, in a thread of its own.
_KILLED = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from airflow.sdk.exceptions import AirflowException
from warmspare_operator import WarmspareSyncOperator

operator = WarmspareSyncOperator(task_id="sync", command=[sys.argv[2]])

def kill():
    while not open(sys.argv[3]).read():
        time.sleep(0.01)
    operator.on_kill()

threading.Thread(target=kill).start()
try:
    operator.execute({})
except AirflowException as error:
    print("ended:", error)
"""
# How a task ends that ran to its end, by the exception that its operator raised.
_ENDS = """
import sys
sys.path.insert(0, sys.argv[1])
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from warmspare_operator import WarmspareSyncOperator

for vms in sys.argv[3:]:
    operator = WarmspareSyncOperator(task_id="sync", vms=vms.split(), request_id="run 7", command=[sys.argv[2]])
    try:
        print("done", operator.execute({}))
    except AirflowFailException:
        print("fails")
    except AirflowException:
        print("again")
"""


class Airflow:
    """One that is installed in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = home / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        words = ["install", "-q", "--disable-pip-version-check", "--no-input", "-c", CONSTRAINTS, "apache-airflow"]
        for attempt in range(3):
            if subprocess.run([self.python, "-m", "pip", *words], check=False).returncode == 0:
                break
            time.sleep(3 * attempt)
        else:
            pytest.fail("Airflow can't be installed")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags()),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        self.run("db", "migrate")

    def dags(self) -> Path:
        """The example, whose retries do not wait as long."""
        folder = self.home / "dags"
        folder.mkdir()
        for path in FOLDER.glob("*.py"):
            text, count = re.subn(r"timedelta\(seconds=\d+\)", "timedelta(seconds=1)", path.read_text())
            assert count == (path.name == "warmspare_dag.py")
            (folder / path.name).write_text(text)
        return folder

    def run(self, *words: str, **environment: str) -> str:
        """A command of Airflow, to its good end; what it logged."""
        program = self.python.with_name("airflow")
        done = subprocess.run(
            [program, *words],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def ends(self, programs: Programs, *vms: str) -> list[str]:
        words = [self.python, "-c", _ENDS, FOLDER, programs.warmspare, *vms]
        said = subprocess.run(words, env=self.environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        return [line for line in said.splitlines() if re.match("done|fails|again", line)]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


def test_a_retry_makes_no_second_point(airflow: Airflow, programs: Programs, site: SiteRig) -> None:
    """Airflow tries the task again, under the name of the same run."""
    vm = site.vms["web1"]
    programs.loses_an_answer()
    environment = {"WARMSPARE": str(programs.warmspare), "WARMSPARE_CONFIG": str(site.config)}
    logged = airflow.run("dags", "test", "warmspare", "2026-01-02T03:15:00+00:00", **environment)
    assert "sync.unneeded" in logged and site.sequences(vm) == [1]
    first, second = programs.calls()
    assert first == second
    request = site.point(vm).request_id
    assert request and request.startswith("warmspare ") and f"--request-id {request} " in first
    airflow.run("dags", "test", "warmspare", "2026-01-02T03:30:00+00:00", **environment)
    assert site.sequences(vm) == [1, 2] and site.point(vm).request_id != request


def test_what_wants_a_person_is_not_tried_again(airflow: Airflow, programs: Programs) -> None:
    """By what the error says of itself."""
    codes = (*AGAIN, *PERSON)
    for retryable, end in ((True, "again"), (False, "fails")):
        programs.error(retryable=retryable)
        programs.ends(*codes)
        assert airflow.ends(programs, *["web1"] * len(codes)) == [end] * len(codes)
    programs.ends()
    assert airflow.ends(programs, "web1 web2", "") == ["done {}"] * 2
    calls = ["sync --vm web1 --vm web2 --request-id run 7 --json", "sync --all --request-id run 7 --json"]
    assert programs.calls() == calls
    programs.program("warmspare", "#!/bin/sh\nkill -9 $$\n")
    assert airflow.ends(programs, "web1") == ["again"]
    programs.program("warmspare", "#!/bin/sh\nexit 7\n")
    assert airflow.ends(programs, "web1") == ["fails"]


def test_a_task_that_is_ended_ends_its_command(airflow: Airflow, programs: Programs) -> None:
    ready, taken_back = programs.folder / "ready", programs.folder / "taken back"
    ready.write_text("")
    told = '{"event": "error", "message": "interrupted", "retryable": true}'
    programs.program(
        "warmspare",
        f"""#!/bin/sh
trap 'touch "{taken_back}"; echo '"'"'{told}'"'"'; kill $child; exit 130' TERM
sleep 3600 >/dev/null & child=$!
echo >"{ready}"
wait
""",
    )
    words = [airflow.python, "-c", _KILLED, FOLDER, programs.warmspare, ready]
    said = subprocess.run(words, env=airflow.environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "ended: interrupted" in said and taken_back.exists()

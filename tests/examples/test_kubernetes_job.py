"""examples/kubernetes: objects by Kubernetes' own schemas, an image by hadolint, and what both run, run."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim, CronSimError

from examples.programs import AGAIN, EXAMPLES, INSTALLED, PERSON, Programs
from rigs.paths import PROJECT
from siterig import SiteRig

FOLDER = EXAMPLES / "kubernetes"
MIDNIGHT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
VERSIONS = ("1.31", "1.34", "1.37")


def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "cronjob.yaml").read_text()))


def job() -> dict[str, Any]:
    [found] = [one for one in objects() if one["kind"] == "CronJob"]
    spec: dict[str, Any] = found["spec"]["jobTemplate"]["spec"]
    return spec


def container() -> dict[str, Any]:
    [found] = job()["template"]["spec"]["containers"]
    return dict(found)


def run(programs: Programs, name: str, environment: dict[str, str] | None = None) -> int:
    """As the job controller runs the job of that name: a pod, and another where one failed; the code of the last."""
    fields = {"metadata.labels['batch.kubernetes.io/job-name']": name}
    values = {
        one["name"]: one.get("value") or fields[one["valueFrom"]["fieldRef"]["fieldPath"]] for one in container()["env"]
    }
    words = [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], word) for word in container()["args"]]
    [never] = [rule["onExitCodes"] for rule in job()["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert never["containerName"] == container()["name"] and never["operator"] == "In"
    for _ in range(1 + job()["backoffLimit"]):
        pod = {**os.environ, **values, **(environment or {})}
        code = subprocess.run([programs.warmspare, *words], env=pod, capture_output=True, check=False).returncode
        if code == 0 or code in never["values"]:
            break
    return code


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_them(version: str) -> None:
    for one in objects():
        kubernetes_validate.validate(one, version, strict=True)
    [schedule] = [one["spec"]["schedule"] for one in objects() if one["kind"] == "CronJob"]
    assert next(CronSim(schedule, MIDNIGHT)) == MIDNIGHT + datetime.timedelta(minutes=15)


def test_its_schemas_would_find_a_mistake() -> None:
    for change in ({"backoffLimitt": 3}, {"backoffLimit": "3"}):
        one = next(one for one in objects() if one["kind"] == "CronJob")
        one["spec"]["jobTemplate"]["spec"] |= change
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
    with pytest.raises(CronSimError):
        CronSim("*/15 * * 13 *", MIDNIGHT)


def test_volumes_and_names_fit() -> None:
    pod = job()["template"]["spec"]
    assert {one["name"] for one in container()["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    claims = {one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one}
    assert claims == {"vddk"} | {one["metadata"]["name"] for one in objects() if one["kind"] == "PersistentVolumeClaim"}
    assert pod["restartPolicy"] == "Never"  # else its failures have no policy


def test_what_wants_a_person_is_not_tried_again(programs: Programs) -> None:
    for code in AGAIN:
        programs.ends(code, code)
        assert run(programs, "warmspare-29456715") == 0
        assert programs.calls() == ["sync --all --request-id warmspare-29456715"] * 3
    for code in PERSON:
        programs.ends(code)
        assert run(programs, "warmspare-29456715") == code and len(programs.calls()) == 1


def test_a_retry_makes_no_second_point(programs: Programs, site: SiteRig) -> None:
    programs.loses_an_answer()
    vm = site.vms["web1"]
    volume = site.home / "volume"
    environment = {"WARMSPARE_CONFIG": str(site.config), "XDG_STATE_HOME": str(volume), "HOME": "/nonexistent"}
    for number, name in enumerate(("warmspare-29456715", "warmspare-29456730"), 1):
        assert run(programs, name, environment) == 0
        assert site.sequences(vm) == list(range(1, number + 1)) and site.point(vm).request_id == name
    assert len(programs.calls()) == 3
    assert {path.name for path in volume.iterdir()} == {"warmspare"}


# -- the image --------------------------------------------------------------------------------------------------------


def steps() -> list[tuple[str, str]]:
    """Of the Dockerfile: instruction and the rest of its line."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line]


def test_hadolint_takes_the_image(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text((FOLDER / "Dockerfile").read_text().replace("python:3.11-slim-bookworm", "python"))
    done = subprocess.run([hadolint, wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "DL3006" in done.stdout


def test_the_image_has_what_the_job_wants() -> None:
    found = steps()
    assert ("USER", str(job()["template"]["spec"]["securityContext"]["runAsUser"])) in found
    assert found[-1] == ("ENTRYPOINT", f'["{INSTALLED}"]')
    debian = (PROJECT / ".ci" / "setup-system").read_text()
    [packages] = [re.search(r"recommends ((?:[\w-]+ ?)+)", rest)[1] for name, rest in found if "apt-get" in rest]  # type: ignore[index]
    assert all(f"need {package} " in debian for package in packages.split())


@pytest.mark.slow
def test_the_image_s_steps_make_the_program(tmp_path: Path) -> None:
    """Those that need no container, in a folder that has what a checkout has."""
    source, place = tmp_path / "source", tmp_path / "warmspare"
    source.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--null", "-T", "-", "-cf", tmp_path / "all.tar"], cwd=PROJECT, input=files, check=True)
    subprocess.run(["tar", "-xf", tmp_path / "all.tar"], cwd=source, check=True)
    [line] = [rest for name, rest in steps() if name == "RUN" and "pip install" in rest]
    line = line.replace("/opt/warmspare", str(place)).replace("python -m venv", f"{sys.executable} -m venv")
    subprocess.run(["/bin/sh", "-c", line], cwd=source, check=True)
    said = subprocess.run([place / "bin" / "warmspare", "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("warmspare ")
    done = subprocess.run([place / "bin" / "warmspare", "init", tmp_path / "repo"], capture_output=True, check=False)
    assert done.returncode == 0 and (tmp_path / "repo" / "repository.json").is_file()

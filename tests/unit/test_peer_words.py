"""What users of restic, borg and AWS's command type first: it works, or they are told what it is called here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rig import Rig
from warmspare.cli.command_parser import fields_of
from warmspare.cli.main import COMMANDS, GROUPS, command, options_of, run
from warmspare.cli.peer_words import OPTIONS, WORDS, answer

# As a restic user types them first, and what must stand in the one sentence that answers.
LINES = [
    ("snapshots", "`warmspare points`"),
    ("-r /srv/repo snapshots", "`warmspare points`"),
    ("-r/srv/repo snapshots", "`warmspare points`"),
    ("--repo /srv/repo snapshots --json", "`warmspare points`"),
    ("snapshots --tag web --latest 1", "`warmspare points`"),
    ("backup /srv/data", "`warmspare sync`"),
    ("-r s3:s3.amazonaws.com/b backup ~/work --exclude *.o", "`warmspare sync`"),
    ("restore latest --target /tmp/back", "`warmspare apply`"),
    ("restore 79766175 --target /tmp/back --include /etc", "`warmspare apply`"),
    ("check", "`warmspare audit repository`"),
    ("check --read-data", "--deep"),
    ("check --read-data-subset=5%", "`warmspare audit repository`"),
    ("forget --keep-daily 7 --prune", "`warmspare prune --keep-daily 14 --yes`"),
    ("forget --keep-last 1 --dry-run", "`warmspare prune --keep"),
    ("umount /mnt/restic", "fusermount3 -u"),
    ("unlock", "ends by itself"),
    ("stats --mode raw-data", "`warmspare points`"),
    ("ls latest", "`warmspare files ls --vm NAME"),
    ("find *.txt", "`warmspare files ls --vm NAME"),
    ("compare 5845b002 2ab627a6", "`warmspare diff A B --vm NAME`"),
    ("dump latest /etc/passwd", "`warmspare failback-export`"),
    ("cat config", "`warmspare apply`"),
    ("tag --set NL latest", "never changed"),
    ("key add", "no passwords"),
    ("list snapshots", "`warmspare points`"),
    ("list locks", "ends by itself"),
    ("list blobs", "`warmspare points`"),
    ("rebuild-index", "--repair"),
    ("repair index", "--repair"),
    ("repair snapshots --forget", "--repair"),
    ("cache --cleanup", "state directory"),
    ("self-update", "pip"),
    ("migrate upgrade_repo_v2", "pip"),
    ("rewrite --exclude secret.txt", "never changed"),
    ("generate --bash-completion /tmp/x", "completion"),
    ("copy --from-repo /srv/a -r /srv/b", "did you mean --from?"),
    ("help snapshots", "`warmspare points`"),
    # and others
    ("create /srv/repo::monday /srv/data", "`warmspare sync`"),
    ("extract /srv/repo::monday", "`warmspare apply`"),
    ("compact /srv/repo", "`warmspare prune`"),
    ("break-lock /srv/repo", "ends by itself"),
    ("export-tar a b", "`warmspare failback-export`"),
    ("s3 ls s3://bucket/", "`warmspare points`"),
    ("s3 sync a b", "`warmspare copy`"),
    ("ec2 run-instances --dry-run", "`warmspare failover`"),
    ("lsd remote:", "`warmspare points`"),
    ("serve http remote:", "no server"),
]


@pytest.mark.parametrize(("line", "said"), LINES, ids=[line for line, _ in LINES])
def test_a_line_of_theirs_is_answered_in_one_sentence(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(line)) == 2
    told = capsys.readouterr()
    [sentence] = told.err.splitlines()
    assert sentence.startswith("warmspare: there is no ") and said in sentence
    assert "--json" in line or not told.out


def test_some_lines_of_theirs_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    rig = Rig(tmp_path)
    assert run(["version"]) == 0 and capsys.readouterr().out.startswith("warmspare ")
    assert run(["help"]) == 0 and run(["help", "points"]) == 0
    assert run(["init", "-r", rig.repo]) == 0 and Path(rig.repo, "repository.json").exists()
    other = str(tmp_path / "other")
    assert run(["-r", other, "init"]) == 0 and Path(other, "repository.json").exists()
    capsys.readouterr()
    for line in (["points", "-r", rig.repo], ["-r", rig.repo, "points"], [f"-r{rig.repo}", "points"]):
        assert run(line) == 0 and capsys.readouterr().out == "no restore points\n"
    assert run(["-r", rig.repo, "prune"]) == 0


def test_words_are_many_none_is_ours_and_each_answer_can_be_followed() -> None:
    assert len(WORDS) >= 45
    assert not {word.split()[0] for word in WORDS} & ({name.split()[0] for name in COMMANDS} | GROUPS)
    flags = {
        name: {f for field in fields_of(options_of(command(name))) for f in field.option.flags} for name in COMMANDS
    }
    for said in WORDS.values():
        assert said == said.strip() and not said.endswith(".")
        for line in re.findall(r"`warmspare ([^`]*)`", said):
            words = line.split()
            name = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in COMMANDS)
            assert {word for word in words if word.startswith("-")} <= flags[name]
    assert set(OPTIONS.values()) <= {flag for several in flags.values() for flag in several}
    assert not set(OPTIONS) & {flag for several in flags.values() for flag in several}


def test_what_is_no_peers_word_is_looked_for_among_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["pionts"]) == "" and answer([]) == "" and answer(["--json"]) == ""
    assert run(["pionts"]) == 2 and "`warmspare points`" in capsys.readouterr().err

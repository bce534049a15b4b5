"""What shells offer: real ones, with the scripts that are installed, and names that would act in them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from rigs.paths import PROJECT
from warmspare.cli.command_parser import fields_of
from warmspare.cli.command_table import COMMANDS, command, options_of
from warmspare.cli.completion.bash_line import typed
from warmspare.cli.completion.candidates import candidates
from warmspare.cli.completion.local_names import LocalNames
from warmspare.cli.main import run
from warmspare.model.ids import PointId, VmId, vm_key
from warmspare.state.local_files import write_record
from warmspare.state.replica_record import ReplicaPlace, ReplicaRecord
from warmspare.sync.local.state_record import StateRecord

SHARE = PROJECT / "share"
BREAKS = " \t\n\"'@><=;|&(:"
REPOSITORY = "5" * 32
SHA256 = "abcdef0123456789" * 4

# What each would do if it were inserted as it is.
NASTY = [
    "two words",
    "it's",
    'a"b',
    "a:b",
    "a=b",
    "a@b",
    "$(touch PWNED)",
    "`touch PWNED`",
    "$HOME",
    "back\\slash",
    "a;touch PWNED",
    "a&b|c",
    "star*?[a]",
    "{a,b}",
    "#hash",
    "~tilde",
    "ünïcödé",
    "a>b<c",
    "per%cent",
    "(paren)",
    "^caret",
]


def remember(state: Path, vm: str, sequence: int = 3, uri: str = "/srv/repo") -> None:
    """As a sync leaves it."""
    folder = state / vm_key(VmId(vm)) / REPOSITORY
    folder.mkdir(parents=True)
    write_record(folder / "state.json", StateRecord(REPOSITORY, uri, VmId(vm), sequence, SHA256), "state")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("REPO", "CONFIG", "STATE", "ENDPOINT_URL"):
        monkeypatch.delenv(f"WARMSPARE_{name}", raising=False)
    return tmp_path / "host" / "warmspare"


def offered(*words: str) -> list[str]:
    return [word for word, _ in candidates(words).found]


# -- what may come next -----------------------------------------------------------------------------------------------


def test_commands_and_groups() -> None:
    assert set(offered("")) == {name.split()[0] for name in COMMANDS} | {"help"}
    assert set(offered("audit", "")) == {"source", "replica", "repository", "verify-report"}
    assert set(offered("--repo", "/x", "audit", "")) == set(offered("audit", ""))
    assert set(offered("help", "")) >= {"sync", "audit"} and "source" in offered("help", "audit", "")
    assert offered("nothing", "") == [] and "--version" in offered("-") and "--repo" in offered("--js")


def test_options_of_a_command_and_words_of_an_option() -> None:
    assert {"--vm", "--repo", "--json", "--help"} <= set(offered("points", "-"))
    assert "--json" not in offered("points", "--json", "-") and "--extents" in offered("sync", "--extents", "x", "-")
    assert "--repo" not in offered("points", "-r", "x", "--")
    assert offered("points", "--output", "") == ["table", "json", "jsonl"] == offered("--output", "")
    assert candidates(["points", "--output=j"]).prefix == "--output="
    assert offered("failback-export", "--format", "") == ["vmdk", "raw"]
    for words, kind in (
        (["sync", "--spool", ""], "folder"),
        (["sync", ""], "file"),
        (["apply", "--to", ""], "file"),
        (["--config", ""], "file"),
        (["apply", "--to=x"], "file"),
        (["points", ""], "words"),
    ):
        assert candidates(words).kind == kind, words
    assert offered("points", "--vm", "--vm", "-")  # the second is the first's value


def test_each_option_says_what_its_value_is_completed_with() -> None:
    kinds = {"FILE": "file", "DIR": "folder", "PATH": "file", "POINT": "point", "ID|--vm": "vm", "NAME|--vm": "vm"}
    for name in COMMANDS:
        for field in fields_of(options_of(command(name))):
            by = kinds.get(field.option.metavar) or kinds.get(f"{field.option.metavar}|{field.title}")
            assert by in (None, field.option.complete), (name, field.title)


def test_VMs_and_points_are_what_this_host_knows(state: Path, tmp_path: Path) -> None:
    assert offered("points", "--vm", "") == [] and offered("apply", "--at", "") == ["latest"]
    remember(state, "web")
    remember(state, "db", 30)
    (tmp_path / "config" / "warmspare").mkdir(parents=True)
    file = tmp_path / "c.toml"
    file.write_text("[vm.erp]\n[vm.'odd name']\n")
    assert offered("points", "--vm", "") == ["db", "web"]
    assert offered("sync", "--config", str(file), "--vm", "") == ["db", "erp", "odd name", "web"]
    assert offered("apply", "--vm", "web", "--at", "") == ["latest", "3-abcdef01", "2", "1"]
    assert len(offered("apply", "--vm", "db", "--at", "")) == 21
    assert offered("sync", "--state", str(tmp_path / "other"), "--vm", "") == []
    assert offered("points", "--repo", "/other", "--vm", "") == []
    replica = ReplicaPlace(tmp_path / "disk.raw", 0, None)
    replica.state.mkdir()
    write_record(replica.record_path, ReplicaRecord(1, REPOSITORY, "/x", VmId("far"), PointId(9, SHA256)), "state")
    assert "far" in offered("audit", "replica", "--replica", str(tmp_path / "disk.raw"), "--vm", "")
    held = ("audit", "replica", "--replica", str(tmp_path / "disk.raw"), "--vm", "far", "--at", "")
    assert offered(*held)[:2] == ["latest", "9-abcdef01"]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"vm": 3}', b"\xff", b"[" * 100_000, b'{"vm":"x"}' + b" " * (1 << 17)]
)
def test_what_can_not_be_read_is_passed_over(data: bytes, state: Path, tmp_path: Path) -> None:
    remember(state, "good")
    (state / "bad" / REPOSITORY).mkdir(parents=True)
    (state / "bad" / REPOSITORY / "state.json").write_bytes(b"0" * 16 + b"\n" + data)
    os.mkfifo(state / "bad" / "fifo")
    (state / "bad" / "e").mkdir()
    os.mkfifo(state / "bad" / "e" / "state.json")
    (tmp_path / "c.toml").write_bytes(data)
    assert LocalNames(str(tmp_path / "c.toml")).vms() == ["good"]


def told(*words: str) -> list[str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run(["__complete", *words]) == 0
    assert err.getvalue() == ""
    return out.getvalue().splitlines()


def test_names_that_act_are_not_told(state: Path) -> None:
    remember(state, "good")
    for sign in ("\n", "\x1b[2J", "\t", "\u202e", "\x7f"):
        folder = state / f"x{ord(sign[0])}" / REPOSITORY
        folder.mkdir(parents=True)
        write_record(folder / "state.json", StateRecord(REPOSITORY, "/x", VmId(f"a{sign}b"), 1, SHA256), "state")
    assert told("bash", "warmspare points --vm ", BREAKS) == ["words", "good"]
    assert told("zsh", "points", "--vm", "") == ["words", "good", "good"]
    assert told("fish", "points", "--vm", "") == ["words", "good\t"]


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash"], ["bash", "x"], ["zsh"], ["fish"]])
def test_whoever_asks_wrongly_is_told_nothing(words: list[str]) -> None:
    assert told(*words) == []


def test_it_is_no_command_of_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0 and "__complete" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words", "kept", "quote"),
    [
        ("warmspare ", [""], "", ""),
        ("warmspare sy", ["sy"], "", ""),
        ("warmspare sync a\\ b", ["sync", "a b"], "", ""),
        ("warmspare sync 'a b", ["sync", "a b"], "", "'"),
        ('warmspare sync "a \\$b\\c', ["sync", "a $b\\c"], "", '"'),
        ("warmspare --vm=we", ["--vm=we"], "--vm=", ""),
        ("warmspare x a:b", ["x", "a:b"], "a:", ""),
        ("warmspare x a\\:b", ["x", "a:b"], "", ""),
        ("warmspare x a'b:c", ["x", "ab:c"], "a", "'"),
        ("warmspare x 'a'b", ["x", "ab"], "a", ""),
        ("cd /x; A=1 sudo warmspare x ''", ["x", ""], "", ""),
        ("./bin/warmspare x ", ["x", ""], "", ""),
        ("ws po", ["po"], "", ""),
    ],
)
def test_a_line_of_bash(line: str, words: list[str], kept: str, quote: str) -> None:
    found = typed(line, BREAKS)
    assert (list(found.words), found.kept, found.quote) == (words, kept, quote)


@pytest.mark.program
def test_it_imports_little(state: Path) -> None:
    """What a shell waits for is the start of an interpreter and its imports; 500 names add nothing that is felt."""
    for number in range(500):
        remember(state, f"vm{number}")
    look = "import sys; from warmspare.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    line = [sys.executable, "-c", look, "__complete", "bash", "warmspare points --vm ", BREAKS]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 501
    imported = done.stderr.split()
    assert not {"msgspec", "numpy", "botocore", "rich", "uvloop", "warmspare.observe.kinds"} & set(imported)
    assert len(imported) < 220, sorted(imported)


# -- real shells ------------------------------------------------------------------------------------------------------

STUB = """#!{python}
import json, os, sys
if sys.argv[1:2] == ["__complete"]:
    os.execv({python!r}, [{python!r}, "-m", "warmspare", *sys.argv[1:]])
with open(os.environ["TOLD"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""
BEGIN = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1=; source {share}/bash-completion/completions/warmspare"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1=; setopt nobeep; fpath=({share}/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "function fish_prompt; end; source {share}/fish/vendor_completions.d/warmspare.fish",
    ),
}


class Typist:
    """Somebody who types into a shell on a terminal, and what the commands were told that came of it."""

    def __init__(self, shell: str, home: Path) -> None:
        self._told = home / "told"
        self._told.touch()
        stub = home / "bin" / "warmspare"
        stub.parent.mkdir()
        stub.write_text(STUB.format(python=sys.executable))
        stub.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{stub.parent}:{os.environ['PATH']}",
            "TOLD": str(self._told),
            "HOME": str(home),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "HISTFILE": "",
        }
        line, first = BEGIN[shell]
        self._master, slave = pty.openpty()
        self._child = subprocess.Popen(
            line,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=home,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # fish wants to be its terminal's foreground
        )
        os.close(slave)
        self.shown = b""
        self.type(first.format(share=SHARE) + "; warmspare ready\n")
        assert self.heard(1)[0] == ["ready"]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def heard(self, count: int) -> list[list[str]]:
        """What the first `count` commands were told."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            lines = self._told.read_text().splitlines()
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            if select.select([self._master], [], [], 0.02)[0]:
                self.shown += os.read(self._master, 65536)
        raise AssertionError(self.shown.decode(errors="replace"))

    def completed(self, start: str, end: str = "") -> list[str]:
        """The words of a line that is typed so far, completed, and run."""
        before = len(self._told.read_text().splitlines())
        self.type(f"{start}\t")
        self._settled()
        self.type(f"{end}\n")
        return self.heard(before + 1)[before]

    def _settled(self) -> None:
        """What a Tab brings is there: nothing has been shown for a while, and the program has ended."""
        quiet = 0
        while quiet < 3:
            if select.select([self._master], [], [], 0.03)[0]:
                self.shown += os.read(self._master, 65536)
                quiet = 0
            else:
                quiet = 0 if self._asking() else quiet + 1

    def _asking(self) -> bool:
        """Whether a program of this session is asked."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"__complete" in path.read_bytes() and os.getsid(int(path.parent.name)) == self._child.pid:
                    return True
        return False

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._master)


@pytest.mark.long
@pytest.mark.program
@pytest.mark.parametrize("shell", BEGIN)
def test_a_real_shell(shell: str, state: Path, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for number, name in enumerate(NASTY):
        remember(state, f"v{number:02d}{name}")
    home = tmp_path / "home"
    (home / "a folder").mkdir(parents=True)
    (home / "a folder" / "disk.raw").touch()
    typist = Typist(shell, home)
    try:
        assert typist.completed("warmspare poi") == ["points"]
        assert typist.completed("warmspare audit repl") == ["audit", "replica"]
        assert typist.completed("warmspare points --js") == ["points", "--json"]
        assert typist.completed("warmspare points --output jsonl") == ["points", "--output", "jsonl"]
        assert typist.completed("warmspare points --output=ta") == ["points", "--output=table"]
        assert typist.completed("warmspare sync a\\ folder/di")[1] == "a folder/disk.raw"
        assert typist.completed("warmspare sync --spool a\\ fo")[2].rstrip("/") == "a folder"
        for number, name in enumerate(NASTY):
            begin, whole = f"v{number:02d}", f"v{number:02d}{name}"
            assert typist.completed(f"warmspare points --vm {begin}") == ["points", "--vm", whole]
            assert typist.completed(f"warmspare points --vm={begin}") == ["points", f"--vm={whole}"]
            for quote in "'\"":
                told = typist.completed(f"warmspare points --vm {quote}{begin}")
                assert told == ["points", "--vm", whole], (quote, name)
    finally:
        typist.close()
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.program
@pytest.mark.parametrize(
    "name", ["~root", "#hash", "-dash", "$HOME", "*", "!x", "{a,b}", "a!b", "'", '"', "a:b c", "\\"]
)
def test_bash_takes_replies_for_the_name(name: str, state: Path, tmp_path: Path) -> None:
    """Whatever the word begins with, in each manner of quoting; a reply that could not be said so is none."""
    remember(state, name)
    for open_quote in ("", "'", '"'):
        _, *replies = told("bash", f"warmspare points --vm {open_quote}", BREAKS)
        if open_quote == '"' and "!" in name:
            assert replies == []
            continue
        line = f"printf '%s\\0' {open_quote}{replies[0]}{open_quote}"
        said = subprocess.run(["bash", "-c", line], capture_output=True, cwd=tmp_path, check=True).stdout
        assert said.decode() == f"{name}\0"

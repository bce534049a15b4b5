"""The daemon: what it does for commands is what they would do, and what it would do otherwise they do themselves."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rig import KIB, MIB, Outcome, Rig, command, random_disk, same
from rigs.host.daemons import Daemon
from rigs.host.forked import Forked
from rigs.host.hearing import all_heard
from rigs.kills.interrupts import HUNG
from warmspare.daemon.messages import MOST_ASKED_BYTES, PROTOCOL
from warmspare.model.keyparts import encode_name
from warmspare.store import layout
from warmspare.store.lease import Holder

SLACK_S = 20.0


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """With a first restore point, made without a daemon."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    rig = Rig(tmp_path)
    random_disk(rig.disk, 3 * MIB, random.Random(1))
    rig.sync()
    return rig


@pytest.fixture
def daemon(rig: Rig) -> Iterator[Daemon]:
    daemon = Daemon(rig.home)
    yield daemon
    assert daemon.end() == 130
    assert not daemon.socket.exists()


def hung(rig: Rig, which: str = "one") -> Daemon:
    """In which the next sync is stuck in the store, in a thread that nothing can end."""
    return Daemon(rig.home, environment={"HANG_AT": "FileUpload._write", "HANG": which}, program=("-c", HUNG))


def words(rig: Rig) -> list[object]:
    return ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state]


def write(rig: Rig, seed: int) -> None:
    with rig.disk.open("r+b") as file:
        file.write(random.Random(seed).randbytes(8 * KIB))


def until_hangs(daemon: Daemon) -> None:
    deadline = time.monotonic() + SLACK_S
    while b"HANGING" not in daemon.process.so_far(2):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def plain(outcome: Outcome) -> list[dict[str, Any]]:
    """Its events without what differs from run to run."""
    told = [dict(event) for event in outcome.events if event["event"] != "progress"]
    for event in told:
        for name in ("seconds", "age_seconds", "created", "point", "sha256", "parent", "id", "report", "bytes_sent"):
            event.pop(name, None)
    return told


class TestSame:
    def test_as_without(self, rig: Rig, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        """Output, events and codes of commands that end well, and of such that do not."""
        rig.apply()
        lines: list[tuple[object, ...]] = [
            ("points", "--repo", rig.repo),
            ("points", "--repo", rig.home / "nowhere"),
            ("points", "--repo", rig.repo, "--vm", "nobody"),
            ("points", "--repo", "s3://no bucket"),
            ("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica),
            ("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica),
            ("audit", "repository", "--repo", rig.repo),
            ("plan", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state),
            ("prune", "--repo", rig.repo),
            ("sync", rig.home / "no.raw", "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state),
            ("drills",),
            ("config", "check", "--config", rig.home / "no.toml"),
            ("failback-done", "--vm", rig.vm, "--repo", rig.repo),
        ]
        for line in lines:
            with monkeypatch.context() as patch:
                patch.setenv("WARMSPARE_DAEMON", "off")
                alone = command(*line)
            done = len(daemon.all("daemon.ended"))
            there = command(*line)
            assert daemon.until("daemon.ended", done + 1)["exit_code"] == there.code, line
            assert (plain(there), there.code, there.stderr) == (plain(alone), alone.code, alone.stderr), line
        assert not daemon.all("daemon.declined")

    def test_what_a_person_sees(self, rig: Rig, daemon: Daemon) -> None:
        rig.apply()
        for line in (
            ("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica),
            ("points", "--repo", rig.repo),
        ):
            said = []
            for off in ("", "off"):
                child = Forked("-m", "warmspare", *line, environment={**os.environ, "WARMSPARE_DAEMON": off})
                out, err = child.communicate()
                assert child.returncode == 0 and not err
                said.append(re.sub(rb"[0-9][0-9a-f.:,TZ -]*|[a-f][0-9a-f]{5,}|(KiB|MiB|B)/s| +", b"#", out))
            assert said[0] == said[1] and said[0]
        assert len(daemon.all("daemon.took")) == 3  # with the apply

    def test_all_problems_of_a_file(self, rig: Rig, daemon: Daemon) -> None:
        config = rig.home / "wrong.toml"
        config.write_text('[vcenter.a]\nhosst = "x"\n[repository.b]\nurl = 3\n')
        config.chmod(0o600)
        said = []
        for off in ("", "off"):
            child = Forked(
                "-m", "warmspare", "config", "check", "--config", config,
                environment={**os.environ, "WARMSPARE_DAEMON": off},
            )  # fmt: skip
            said.append((*child.communicate(), child.returncode))
        assert said[0] == said[1] and said[0][1].count(b"\n") > 2 and said[0][2] == 2
        assert daemon.until("daemon.ended")["exit_code"] == 2

    def test_from_another_directory(self, rig: Rig, daemon: Daemon) -> None:
        """Paths are what they are where the command is."""
        folder = rig.home / "elsewhere"
        folder.mkdir()
        (folder / "disk.raw").symlink_to(rig.disk)
        line = ("sync", "disk.raw", "--vm", rig.vm, "--repo", "../repo", "--state", "../state", "--json")
        child = Forked("-m", "warmspare", *line, folder=folder)
        out, err = child.communicate()
        assert child.returncode == 0, err
        assert str(all_heard(out)[-1]["point"]).startswith("2-")
        assert daemon.until("daemon.ended")["exit_code"] == 0

    def test_traceback(self, rig: Rig, daemon: Daemon) -> None:
        child = Forked("-m", "warmspare", "points", "--repo", rig.home / "nowhere", "--debug")
        _, err = child.communicate()
        assert child.returncode == 2 and b"repository_requests.py" in err and b"Traceback" in err
        assert daemon.until("daemon.ended")["exit_code"] == 2


class TestNotHere:
    """What would not be the same there is done by the command itself, which says why if it is asked."""

    def test_it_is_said(self, rig: Rig, daemon: Daemon) -> None:
        line = ("-m", "warmspare", "points", "--repo", rig.repo, "-v")
        used = Forked(*line)
        assert f"done by the daemon at {daemon.socket}" in used.communicate()[0].decode()
        unused = Forked(*line, environment={**os.environ, "AWS_PROFILE": "other"})
        said = unused.communicate()[0].decode()
        assert "not done by the daemon: its environment has not the same AWS_PROFILE\n" in said
        quiet = Forked(*line[:-1])
        assert b"daemon" not in quiet.communicate()[0]

    @pytest.mark.parametrize(
        "name", ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "HTTPS_PROXY", "HOME", "PATH", "AWS_CA_BUNDLE", "SSL_CERT_FILE"]
    )
    def test_other_environment(self, rig: Rig, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        value = "AKIASECRETSECRET" + os.environ.get(name, "")
        monkeypatch.setenv(name, value)
        rig.sync()
        why = str(daemon.until("daemon.declined")["why"])
        assert name in why and not daemon.all("daemon.took")
        assert "AKIASECRET" not in daemon.log.read_text()

    def test_a_secret_of_the_configuration(self, rig: Rig, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        config = rig.home / "warmspare.toml"
        config.write_text(
            '[vcenter.a]\nhost = "127.0.0.1"\nport = 9\nuser = "u"\npassword = {env = "VC_PASSWORD"}\n'
            f'thumbprint = "{":".join(["ab"] * 32)}"\nvddk = "{rig.home}"\n[repository.spare]\nuri = "{rig.repo}"\n'
        )
        monkeypatch.setenv("VC_PASSWORD", "hunter2")
        command("config", "check", "--config", config)
        assert "VC_PASSWORD" in str(daemon.until("daemon.declined")["why"])
        assert "hunter2" not in daemon.log.read_text()

    def test_other_umask(self, rig: Rig, daemon: Daemon) -> None:
        before = os.umask(0o027)
        try:
            rig.apply()
        finally:
            os.umask(before)
        assert "umask" in str(daemon.until("daemon.declined")["why"])

    def test_what_goes_on_for_ever(self, rig: Rig, daemon: Daemon) -> None:
        child = Forked("-m", "warmspare", "apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, "--follow")
        while not rig.replica.exists():
            time.sleep(0.02)
        child.terminate()
        child.communicate()
        assert child.returncode == 130 and not daemon.all("daemon.took")

    def test_a_descriptor_of_the_command(self, rig: Rig, daemon: Daemon) -> None:
        write(rig, 3)
        fd = os.open(rig.disk, os.O_RDONLY)
        line = [str(word).replace(str(rig.disk), f"{rig.disk.name}=/dev/fd/{fd}") for word in words(rig)]
        subprocess.run([sys.executable, "-m", "warmspare", *line], capture_output=True, pass_fds=[fd])
        os.close(fd)
        assert not daemon.all("daemon.took")

    def test_no_room(self, rig: Rig) -> None:
        """Where what it may use is taken, commands do not wait for it."""
        daemon = hung(rig)
        write(rig, 4)
        stuck = Forked("-m", "warmspare", *words(rig))
        until_hangs(daemon)
        several = [Forked("-m", "warmspare", "points", "--repo", rig.repo) for _ in range(20)]
        assert [child.wait(60) for child in several] == [0] * 20
        stuck.terminate()
        stuck.communicate()
        daemon.process.kill()
        daemon.process.wait(60)

    def test_it_is_gone_or_not_itself(self, rig: Rig) -> None:
        """A socket that nobody listens at, a file, a server that is none, one that is silent."""
        place = rig.home / "warmspare" / "daemon.sock"
        place.parent.mkdir(exist_ok=True)
        place.write_text("")
        rig.sync()
        place.unlink()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place))
        rig.sync()
        place.unlink()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(place))
            silent.listen(8)
            began = time.monotonic()
            rig.sync()
            assert time.monotonic() - began < 10 + SLACK_S
        place.unlink()
        for said in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\xff" * 64,
            frame({"is": "Greeting", "protocol": 0, "nonce": ""}),
        ):
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(place))
                other.listen(8)
                child = Forked("-m", "warmspare", "points", "--repo", rig.repo)
                connection, _ = other.accept()
                connection.sendall(said)
                assert child.wait(60) == 0, child.communicate()
                connection.close()
            place.unlink()


def frame(message: object) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_to_the_command(self, rig: Rig, number: int) -> None:
        """What the run owes is taken back over there, and said as ever. What is stuck there can't be freed but by the
        daemon's end, which comes by itself."""
        daemon = hung(rig)
        write(rig, 5)
        child = Forked("-m", "warmspare", *words(rig), "--json")
        until_hangs(daemon)
        assert not lease(rig).free
        child.send_signal(number)
        out, err = child.communicate()
        assert child.returncode == 130
        assert err == b"warmspare: interrupted; run the same command again, it goes on from here\n"
        last = all_heard(out)[-1]
        assert last["event"] == "error" and last["kind"] == "interrupted" and last["left"] == [], out
        assert lease(rig).free
        assert daemon.process.wait(60) == 130 and daemon.all("daemon.stuck")
        assert rig.sync().code == 0

    def test_a_signal_to_one_that_can_unwind(self, rig: Rig, daemon: Daemon) -> None:
        """The daemon goes on, and so do its other runs."""
        moment = random.Random(5)
        codes = set()
        for number in range(12):
            write(rig, number)
            child = Forked("-m", "warmspare", *words(rig))
            time.sleep(moment.uniform(0, 0.4))
            child.send_signal(signal.SIGINT)
            codes.add(child.wait(60))
            assert lease(rig).free
        # 6: the one before has not unwound over there; -2: before it is anything but an interpreter
        assert codes <= {0, 130, 6, -signal.SIGINT} and 130 in codes
        assert rig.sync().code == 0
        rig.apply()
        assert same(rig.disk, rig.replica)

    def test_what_can_not_be_taken_back_is_named(self, rig: Rig) -> None:
        daemon = hung(rig, "all")
        write(rig, 6)
        child = Forked("-m", "warmspare", *words(rig), "--json")
        until_hangs(daemon)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate()
        what = f"the lease {rig.repo}/{layout.lease_key(encode_name(rig.vm))}"
        assert child.returncode == 130 and f"left to the next run: {what};" in err.decode()
        told = all_heard(out)
        assert [event["what"] for event in told if event["event"] == "interrupted"] == [what]
        assert told[-1]["left"] == [what]
        daemon.process.kill()
        daemon.process.wait(60)
        rig.sync()

    def test_a_second_signal(self, rig: Rig) -> None:
        daemon = hung(rig, "all")
        write(rig, 7)
        child = Forked("-m", "warmspare", *words(rig))
        until_hangs(daemon)
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + SLACK_S
        while b"taking back the lease" not in child.so_far(2):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 130 and time.monotonic() - began < SLACK_S
        daemon.process.kill()
        daemon.process.wait(60)

    def test_a_command_that_is_killed(self, rig: Rig) -> None:
        """Its run ends as by a signal: nobody would hear of its end."""
        daemon = hung(rig)
        write(rig, 8)
        child = Forked("-m", "warmspare", *words(rig))
        until_hangs(daemon)
        child.kill()
        child.communicate()
        assert daemon.until("daemon.ended")["exit_code"] is None
        assert lease(rig).free
        assert daemon.process.wait(60) == 130
        assert rig.sync().code == 0

    def test_the_daemon_is_killed(self, rig: Rig) -> None:
        """It costs a retry: the command says so, and the next one does without; a new one takes the place."""
        daemon = hung(rig)
        write(rig, 9)
        child = Forked("-m", "warmspare", *words(rig), "--json")
        until_hangs(daemon)
        daemon.process.kill()
        daemon.process.wait(60)
        out, err = child.communicate()
        last = all_heard(out)[-1]
        assert child.returncode == 4 and last["retryable"] and "the daemon that did this went away" in err.decode()
        assert daemon.socket.exists()
        rig.sync()
        after = Daemon(rig.home)
        rig.sync()
        assert after.until("daemon.ended")["exit_code"] == 0
        assert after.end() == 130

    def test_the_daemon_is_asked_to_end(self, rig: Rig) -> None:
        """Its runs end as by a signal of their own."""
        daemon = hung(rig)
        write(rig, 10)
        child = Forked("-m", "warmspare", *words(rig), "--json")
        until_hangs(daemon)
        assert daemon.end() == 130
        _, err = child.communicate()
        assert child.returncode == 4 and b"run the same command again" in err, err
        assert lease(rig).free

    def test_it_is_asked_to_end_while_it_waits(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its commands are told that it was; nothing is a bug."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, "eu-central-1")
        daemon = Daemon(rig.home)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = f"http://127.0.0.1:{silent.getsockname()[1]}"
            child = Forked("-m", "warmspare", "points", "--repo", "s3://spare/a", "--endpoint-url", where, "--json")
            silent.settimeout(SLACK_S)
            with silent.accept()[0]:
                assert daemon.all("daemon.took") and daemon.end() == 130
                out, err = child.communicate()
        assert child.returncode == 4 and b"was asked to end" in err, err
        assert all_heard(out)[-1]["retryable"]

    def test_a_reader_that_goes_away(self, rig: Rig, daemon: Daemon) -> None:
        write(rig, 11)
        reading, writing = os.pipe()
        os.close(reading)
        subprocess.run([sys.executable, "-m", "warmspare", *map(str, words(rig))], stdout=writing, check=True)
        os.close(writing)
        assert daemon.until("daemon.ended")["exit_code"] == 0
        assert str(rig.sync().events[-1]["point"]).startswith("3-")

    def test_a_reader_that_rests(self, rig: Rig, daemon: Daemon) -> None:
        """What it does not take waits, in a file where it is much; nobody else waits for it, and nothing is lost."""
        for _ in range(3):
            write(rig, random.randrange(1 << 30))
            rig.sync()
        folder = Path(rig.repo) / "vms" / encode_name(rig.vm)
        for number in range(2, 700):  # the listing reads what stands there, whoever wrote it
            other = folder.with_name(f"vm{number}")
            other.mkdir()
        child = Forked("-m", "warmspare", "points", "--repo", rig.repo, "--json")
        child.send_signal(signal.SIGSTOP)
        for _ in range(3):
            assert rig.sync().code == 0
        child.send_signal(signal.SIGCONT)
        out, err = child.communicate()
        assert child.returncode == 0, err
        assert all_heard(out)[-1]["event"] == "points.done"


def lease(rig: Rig) -> Holder:
    return Holder.decode((Path(rig.repo) / layout.lease_key(encode_name(rig.vm))).read_bytes())


class TestWhoIsLetIn:
    def test_one_at_a_time(self, rig: Rig, daemon: Daemon) -> None:
        second = Forked("-m", "warmspare", "daemon", "--json")
        out, err = second.communicate()
        assert second.returncode == 6 and b"at work already" in err
        assert all_heard(out)[-1]["kind"] == "lease"
        assert daemon.socket.stat().st_mode & 0o777 == 0o600
        rig.sync()
        assert daemon.until("daemon.ended")["exit_code"] == 0

    def test_nonsense(self, rig: Rig, daemon: Daemon) -> None:
        """Whatever is said to it, it goes on, and keeps nothing."""
        rng = random.Random(1)
        rig.sync()
        before = daemon.descriptors()
        deep = b'{"is":"Ask","request":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
        pieces = [
            b"", b"\0", b"\xff\xff\xff\xff", (MOST_ASKED_BYTES + 1).to_bytes(4, "big"), frame(None), frame([1]),
            frame({"is": "Cancel"}), frame({"is": "Ask"}), frame({"is": "RunEnded", "exit_code": 0}),
            len(deep).to_bytes(4, "big") + deep, frame({"is": "Ask", "request": {}, "surroundings": {}, "period_s": 1}),
            *(rng.randbytes(rng.randrange(1, 200)) for _ in range(30)),
        ]  # fmt: skip
        for piece in pieces:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(daemon.socket))
                connection.settimeout(30)
                connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                said = b""
                while more := connection.recv(1 << 16):
                    said += more
                assert b'"Greeting"' in said and b'"RunEnded"' not in said
        rig.sync()
        assert daemon.until("daemon.ended")["exit_code"] == 0
        deadline = time.monotonic() + SLACK_S
        while daemon.descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert daemon.descriptors() <= before

    def test_what_is_no_request(self, rig: Rig, daemon: Daemon) -> None:
        """Of a class that there is not, with a field that there is not, for another program."""
        around = {
            "program": ["0", "", "", 0], "user": os.geteuid(), "groups": [], "umask": 0, "root": [0, 0],
            "encoding": "", "niceness": 0, "capabilities": "", "namespaces": {}, "variables": {},
        }  # fmt: skip
        good = {"request": "PointsRequest", "repository": {"uri": rig.repo}}
        for request in ({"request": "DaemonRequest"}, {"request": "os.system"}, {**good, "vm": 3}, good):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(daemon.socket))
                connection.settimeout(30)
                ask = {"is": "Ask", "request": request, "surroundings": around, "period_s": 1.0, "traceback": False}
                connection.sendall(frame(ask))
                said = b""
                while more := connection.recv(1 << 16):
                    said += more
                assert b'"Declined"' in said
        assert not daemon.all("daemon.took") and len(daemon.all("daemon.declined")) == 4
        assert PROTOCOL == 1

    def test_its_end_is_not_waited_for(self, rig: Rig, daemon: Daemon) -> None:
        """What is done in a moment is over then."""
        for number in range(5):
            assert command("points", "--repo", rig.repo).code == 0
            daemon.until("daemon.ended", number + 1)
        assert min(float(str(event["seconds"])) for event in daemon.all("daemon.ended")) < 0.09

    def test_many_at_once(self, rig: Rig, daemon: Daemon) -> None:
        """More than are let in; some that say nothing, and are let go."""
        silent = []
        for _ in range(40):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(daemon.socket))
            silent.append(connection)
        children = [Forked("-m", "warmspare", "points", "--repo", rig.repo) for _ in range(30)]
        assert [child.wait(60) for child in children] == [0] * 30
        for connection in silent:
            connection.settimeout(30)
            while connection.recv(1 << 16):
                pass
            connection.close()
        assert {event["exit_code"] for event in daemon.all("daemon.ended")} == {0}

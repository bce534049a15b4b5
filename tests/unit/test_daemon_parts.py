"""What goes between a command and the daemon comes back as it was, or is refused."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
import shutil
import socket
import tempfile
from pathlib import Path

import msgspec
import pytest

import warmspare
from unit.test_events import KINDS, samples
from warmspare.config.problems import ConfigPlace, SettingsError
from warmspare.config.secret import Secret
from warmspare.config.settings import Settings
from warmspare.daemon import daemon_client
from warmspare.daemon.carrying import NotCarriedError, decoded, encoded, event_of, kind_of, plain, taken
from warmspare.daemon.daemon_client import _through_proc
from warmspare.daemon.errors_carried import error_of, said_of
from warmspare.daemon.frames import Frames
from warmspare.daemon.messages import (
    MOST_ASKED_BYTES,
    PROTOCOL,
    Ask,
    Begun,
    Cancel,
    ErrorSaid,
    EventTold,
    FromClient,
    FromDaemon,
    Greeting,
    RunEnded,
    RunFailed,
)
from warmspare.daemon.server import requests
from warmspare.daemon.socket_place import SocketPlace
from warmspare.daemon.surroundings import Surroundings
from warmspare.debts import Debts, Owed
from warmspare.engine.host_places import HostPlaces
from warmspare.engine.request import Request, RunContext
from warmspare.engine.whole_paths import paths_of, whole
from warmspare.errors import (
    ConfigError,
    FormatError,
    IntegrityError,
    LeaseError,
    NoRoomError,
    NotFoundError,
    RecoverError,
    SourceError,
    StoreError,
    WarmspareError,
)
from warmspare.observe.event import Event
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.run_events import Error, Progress

PLACE = ConfigPlace("/etc/warmspare.toml", "vcenter.a.host", 3)
_GIVEN = (warmspare.SyncRequest, warmspare.PlanRequest, warmspare.SourceAuditRequest)  # whose disks are given


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_event(kind: type[Event]) -> None:
    for event in samples(kind):
        message = decoded(encoded(EventTold(kind_of(event), plain(event))), FromDaemon)
        assert event_of(message.kind, message.event) == event
        assert type(event_of(message.kind, message.event)) is kind


def test_what_is_no_text_and_no_number() -> None:
    """Names of files that are not UTF-8, and what a division by nothing gave."""
    event = Progress(bytes_total=0, bytes_done=0, seconds=math.inf, seconds_left=math.nan)
    message = decoded(encoded(EventTold(kind_of(event), plain(event))), FromDaemon)
    again = event_of(message.kind, message.event)
    assert isinstance(again, Progress) and again.seconds == math.inf and math.isnan(again.seconds_left)
    odd = os.fsdecode(b"/srv/\xff\x80.raw")
    assert decoded(encoded(ErrorSaid(kind="store", exit_code=4, what=odd)), ErrorSaid).what == odd


@pytest.mark.parametrize("kind", ["os.system", "sync_events.Event", "sync_events.", "..cli.main", "", "x.y"])
def test_no_event(kind: str) -> None:
    with pytest.raises(NotCarriedError):
        event_of(kind, {})


@pytest.mark.parametrize(
    "error",
    [
        *(
            kind("it is so", where="/srv/x", hint="mend it", retryable=True)
            for kind in (ConfigError, SourceError, IntegrityError, FormatError, LeaseError, RecoverError)
        ),
        NotFoundError("it is gone", where="s3://b/k", action="s3:GetObject"),
        NoRoomError("no room", where="/srv"),
        SettingsError([PLACE.problem("it is no host", "write one")]),
        SettingsError([PLACE.problem("it is no host", "write one"), PLACE.problem("and more")], shown_by="warmspare x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_error(error: WarmspareError) -> None:
    if isinstance(error, StoreError):
        error.object, error.code, error.denied = "s3://b/k", "AccessDenied", True
    if isinstance(error, LeaseError):
        error.host, error.pid, error.until_s = "host", 7, 1e9
    again = error_of(decoded(encoded(said_of(error)), ErrorSaid))
    assert isinstance(again, WarmspareError)
    assert Error.of(again) == Error.of(error) and str(again) == str(error)
    assert said_of(again) == said_of(error)
    if isinstance(error, SettingsError):
        assert isinstance(again, SettingsError)
        assert [one.sentence for one in again.problems] == [one.sentence for one in error.problems]


def test_a_bug() -> None:
    again = error_of(said_of(ZeroDivisionError("division by zero")))
    assert type(again).__name__ == "ZeroDivisionError" and str(again) == "division by zero"


def test_each_request(tmp_path: Path) -> None:
    """As little as each must have; and one with all that there is."""
    everything = requests()
    for kind in everything.__args__:
        fields = {field.name: _least(kind, field.name) for field in msgspec.structs.fields(kind) if field.required}
        request = taken({"request": kind.__name__, **fields}, everything)
        assert type(request) is kind and bool(request.apart()) is (kind is warmspare.MountRequest)
        again = taken(plain(whole(request, tmp_path)), everything)
        assert again == whole(request, tmp_path) == whole(again, Path("/elsewhere"))
        assert all(path.startswith("/") for path in paths_of(again))


def _least(kind: type[Request[object]], name: str) -> object:
    place = {"uri": "repo"}
    disks = {"vm": "web", "replica": "disk.raw", "repository": place}
    given = {"vm": "web", "disks": [{"place": "disk.raw", "extents": "ext"}]}
    return {
        "repository": place, "repositories": [place], "source": place, "destination": place, "disks": disks,
        "vm": "web", "vms": [], "at": "1", "to": "replica.raw", "replica": "replica.raw", "plan": "plan.toml",
        "paths": ["/etc"], "folder": "mnt", "first": "1", "second": "2",
    }.get("" if name == "disks" and issubclass(kind, _GIVEN) else name, given)  # fmt: skip


def test_secrets_stay(tmp_path: Path) -> None:
    """A program's own settings are for its own process."""
    settings = object.__new__(Settings)
    for field in dataclasses.fields(Settings):
        object.__setattr__(settings, field.name, ())
    secret = Secret.plain("hunter2", PLACE)
    object.__setattr__(settings, "vcenters", (secret,))
    request = warmspare.FleetSyncRequest(settings=settings)
    with pytest.raises(NotCarriedError) as caught:
        plain(request)
    assert "hunter2" not in str(caught.value)


def test_variables_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    one, other, again = (Surroundings.here(nonce) for nonce in (b"a" * 16, b"b" * 16, b"a" * 16))
    assert one == again and "hunter2" not in repr(one)
    assert one.variables["AWS_SECRET_ACCESS_KEY"] != other.variables["AWS_SECRET_ACCESS_KEY"]
    assert one.differs(again) == ""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    monkeypatch.setenv("EDITOR", "ed")
    changed = Surroundings.here(b"a" * 16)
    assert changed.differs(one) == "its environment has not the same AWS_SECRET_ACCESS_KEY"
    assert "EDITOR" in changed.differs(one, ["EDITOR"])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("program", ("0.0", "python", "/opt", 1), "another program"),
        ("user", 1, "user"),
        ("groups", (1, 2), "groups"),
        ("encoding", "iso8859-1", "encoding"),
        ("niceness", 19, "niceness"),
        ("capabilities", "0", "capabilities"),
        ("umask", 0o077, "umask"),
        ("root", (1, 2), "container"),
        ("namespaces", {"mnt": "mnt:[1]"}, "container"),
    ],
)
def test_each_difference_counts(field: str, value: object, words: str) -> None:
    here = Surroundings.here(b"a" * 16)
    assert words in msgspec.structs.replace(here, **{field: value}).differs(here)


def test_which_group_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same groups, and another of them the first: it is what files get."""
    monkeypatch.setattr(os, "getgroups", lambda: [1, 2])
    one, other = (monkeypatch.setattr(os, "getegid", lambda n=n: n) or Surroundings.here(b"a" * 16) for n in (1, 2))
    assert "groups" in one.differs(other)


def test_a_relative_path_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another file in another directory."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "~/config")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ca.pem")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:bin")
    here = Surroundings.here(b"a" * 16)
    monkeypatch.chdir(tmp_path)
    there = Surroundings.here(b"a" * 16)
    assert there.differs(here) == "its environment has not the same AWS_SHARED_CREDENTIALS_FILE, PATH"


async def test_no_room_for_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says something goes on, and the other side hears that it was not all."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "r+b"))  # noqa: SIM115
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    frames: Frames[object] = Frames(reader, writer, FromDaemon, 1)
    for _ in range(200):
        frames.say(RunFailed(None, "x" * 30_000))
    assert frames.full
    await asyncio.wait_for(frames.close(), 10)
    theirs.settimeout(10)
    with theirs, contextlib.suppress(ConnectionResetError):
        while theirs.recv(1 << 16):
            pass


async def test_who_reads_nothing_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where what it was asked does not fit into the kernel's buffers."""
    monkeypatch.setattr(daemon_client, "ANSWER_S", 0.3)
    for number in range(3000):
        monkeypatch.setenv(f"{'X' * 150}{number}", "1")
    greeting = encoded(Greeting(PROTOCOL, "ab" * 16))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "daemon.sock"))
        listener.listen(1)
        run = RunContext(Events(), Meter(), HostPlaces(tmp_path))
        asked = asyncio.ensure_future(daemon_client.ask(warmspare.VmsRequest(), run))
        await asyncio.sleep(0)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(len(greeting).to_bytes(4, "big") + greeting)
            assert await asyncio.wait_for(asked, 10) == daemon_client.Refused("it does not answer")


async def test_done_when_the_cancel_comes(tmp_path: Path) -> None:
    """It ends with its own code, as where there is no daemon."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "daemon.sock"))
        listener.listen(1)
        run = RunContext(Events(), Meter(), HostPlaces(tmp_path))
        asked = asyncio.ensure_future(daemon_client.ask(warmspare.VmsRequest(), run))
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_unix_connection(sock=listener.accept()[0])
        there: Frames[object] = Frames(reader, writer, FromClient, MOST_ASKED_BYTES)
        there.say(Greeting(PROTOCOL, "ab" * 16))
        assert isinstance(await there.hear(), Ask)
        there.say(Begun())
        await asyncio.sleep(0.1)
        asked.cancel()
        assert isinstance(await there.hear(), Cancel)
        there.say(RunEnded(7))
        assert await asyncio.wait_for(asked, 10) == daemon_client.DoneThere(7, None)
        await there.drop()


def test_a_socket_in_its_place(tmp_path: Path) -> None:
    """Who ends takes away its own, and not that of a daemon which has the directory by now."""
    place = SocketPlace(tmp_path / "state" / "daemon.sock")
    with place.listening():
        shutil.rmtree(place.path.parent)
        place.path.parent.mkdir()
        place.path.write_text("")
    assert place.path.exists()


def test_more_wait_than_may(tmp_path: Path) -> None:
    place = SocketPlace(tmp_path / "daemon.sock")
    with place.listening(), contextlib.ExitStack() as stack, pytest.raises(BlockingIOError):
        while True:
            stack.enter_context(place.connected())


def test_descriptors_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/fd/0")
    (tmp_path / "far").symlink_to("link")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "file").write_text("")
    (tmp_path / "good").symlink_to("file")
    assert all(map(_through_proc, (Path("/dev/stdin"), Path("/dev/fd/7"), tmp_path / "far", Path("/proc/self/fd/3"))))
    assert not any(map(_through_proc, (tmp_path / "file", tmp_path / "good", tmp_path / "none", Path("/dev/null"))))
    assert _through_proc(tmp_path / "round")  # nobody can say where it leads


class _Heard:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def owes(self, owed: Owed[object]) -> None:
        self.heard.append(("owes", owed.what))

    def begins(self, owed: Owed[object]) -> None:
        self.heard.append(("begins", owed.what))

    def settles(self, owed: Owed[object], *, stays: bool) -> None:
        self.heard.append(("stays" if stays else "settles", owed.what))


async def test_debts_of_a_run_are_the_processes_too() -> None:
    heard = _Heard()
    above = Debts()
    one, other = Debts(above, heard), Debts(above)

    async def stays() -> str:
        return "no"

    first = one.owe("a", 1.0, stays)
    other.owe("b", 1.0, None, last=True)
    assert one.left == ["a"] and other.left == ["b"] and above.left == ["a", "b"]
    await first.settle()
    assert heard.heard == [("owes", "a"), ("begins", "a"), ("stays", "a")]
    assert one.left == ["a"] and above.left == ["a", "b"]
    one.restart()
    assert not one.left


def test_requests_say_what_they_carry() -> None:
    """What a command shows at its end can be read back over here."""
    for kind in requests().__args__:
        assert issubclass(kind, Request)
        if kind.carried is not None:
            with pytest.raises(NotCarriedError, match="required"):
                taken({}, kind.carried)

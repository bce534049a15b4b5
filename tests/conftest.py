"""Fixtures for all tests: S3 servers that run once a session, and fresh places in them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import uvloop

from rigs.aws import models
from rigs.kills import interrupts
from rigs.stores.ceph import ceph_server
from servers import S3Place, S3Server, make_bucket, moto_server, seaweed_server
from suite import documented, needs, order, quick, remedies
from suite.timed import is_timed

_numbers = itertools.count(1)
hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    quick.add_option(parser)


def pytest_configure() -> None:
    """Ctrl-C means something, also where whoever started this had it ignored: `nohup`, a shell's background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    needs.watch()
    quick.watch()


def pytest_collection_finish() -> None:
    """What was read until now stays to the end, and is much: a collection that looks at all of it again and again would
    take a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asynchronous tests run on the loop that the program runs on: it differs from asyncio's own where it matters."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    quick.select(config, items)
    needs.mark(config, items)
    if "timed" in config.option.markexpr:  # reading all tests for it takes its time
        for item in items:
            if is_timed(item.path, getattr(item, "originalname", item.name)):
                item.add_marker(pytest.mark.timed)
    order.sort(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    needs.begin()
    quick.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """A test that needs what not everyone has says so."""
    yield
    assert not (unsaid := needs.unsaid(item)), "; ".join(unsaid)
    assert not (wrong := quick.unsaid(item)), wrong


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands leave on a host for the next one is this session's own, and not the machine's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _events_are_looked_at() -> Iterator[None]:
    """Those that are told in this process; what another process tells is looked at where it is parsed."""
    with documented.held():
        yield


@pytest.fixture(autouse=True)
def _events_are_as_documented(_events_are_looked_at: None) -> Iterator[None]:
    """Each has the fields of its struct, of their types, in their order."""
    yield
    assert not (wrong := documented.wrong()), "\n".join(wrong)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """Not by a test that failed either."""
    yield
    interrupts.end_all()


@pytest.fixture(autouse=True)
def _remedies_are_met(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that says that it does what a sentence says has met that sentence."""
    named = [str(sentence) for mark in request.node.iter_markers("remedy") for sentence in mark.args]
    if not named:
        yield
        return
    with pytest.MonkeyPatch.context() as patch, remedies.listening(patch) as heard:
        yield
    unmet = [sentence for sentence in named if not any(remedies.pattern(sentence).search(each) for each in heard)]
    assert not unmet, "the test does not bring about the trouble that this remedy is for"


@pytest.fixture(scope="session", autouse=True)
def _aws_models_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        models.share(patch)
        yield


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS server: a real S3 that enforces keys, conditions and checksums."""
    with seaweed_server(tmp_path_factory.mktemp("seaweed")) as server:
        make_bucket(server, "tests")
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """moto's S3."""
    with moto_server() as server:
        make_bucket(server, "tests")
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Ceph's S3 gateway, as Debian brings it: right about conditional creates, deaf to CRC32C."""
    with ceph_server(tmp_path_factory.mktemp("ceph")) as server:
        make_bucket(server, "tests")
        yield server


def use_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """Point the AWS environment of this process at the server; a fresh place there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return S3Place(server, "tests", f"run-{os.getpid()}/{next(_numbers)}")


@pytest.fixture
def seaweed_place(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A fresh prefix on SeaweedFS; the AWS environment (inherited by subprocesses) points there."""
    return use_server(seaweed, monkeypatch)


@pytest.fixture
def ceph_place(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A fresh prefix on Ceph; the AWS environment points there."""
    return use_server(ceph, monkeypatch)


@pytest.fixture
def moto_place(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A fresh prefix on moto; the AWS environment points there."""
    return use_server(moto, monkeypatch)

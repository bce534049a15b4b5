"""`--follow` that is started while the store is down, as after a power cut at the spare's site: it says so and waits,
and goes on when the store is back. What waiting can't mend ends it at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from fault.test_s3_runs import noise_disk
from rig import MIB, Event, Rig, same
from rigs.host.hearing import recorder
from rigs.host.nobody import as_nobody
from rigs.links.proxy import Proxy, Refusal
from servers import S3Place
from warmspare.apply.receiver import Receiver
from warmspare.errors import ConfigError, StoreError
from warmspare.observe.events import Events
from warmspare.patience import Patience
from warmspare.recover.aws.client import Aws
from warmspare.recover.staging.stager import Stage, StageSettings
from warmspare.store.contract import Store
from warmspare.store.opening import open_store
from warmspare.store.s3 import connection

POLL_S = 0.05
QUICK = Patience(deadline_s=0.6, first_s=0.6, stall_s=0.5, connect_s=0.5, pause_s=0.02, most_s=0.2)


@pytest.fixture
def rig(tmp_path: Path, seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A restore point on SeaweedFS."""
    rig = Rig(tmp_path, repo=seaweed_place.uri, more=["--endpoint-url", seaweed_place.server.endpoint_url])
    noise_disk(rig.disk, 2 * MIB)
    rig.sync()
    monkeypatch.setattr(connection, "Patience", lambda: QUICK)
    return rig


@pytest.fixture
def behind(rig: Rig) -> Rig:
    """With a replica at the point before the newest: as after a restart of its host."""
    rig.apply()
    noise_disk(rig.disk, 2 * MIB, seed=2)
    rig.sync()
    return rig


@pytest_asyncio.fixture
async def proxy(seaweed_place: S3Place) -> AsyncIterator[Proxy]:
    with Proxy(urlsplit(seaweed_place.server.endpoint_url).port or 0) as made:
        yield made


@pytest_asyncio.fixture
async def store(rig: Rig, proxy: Proxy) -> AsyncIterator[Store]:
    """Its store behind the proxy, not asked anything yet."""
    made = open_store(rig.repo, endpoint_url=proxy.url)
    yield made
    await made.close()


class Heard:
    """Events of a run."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.out = Events(recorder(self.events))

    async def until(self, name: str, task: asyncio.Task[Any], count: int = 1) -> list[Event]:
        """Those of a name, once there are so many."""
        while len(found := [event for event in self.events if event["event"] == name]) < count:
            if task.done():
                task.result()
                raise AssertionError(f"it ended before {name}: {self.events}")
            await asyncio.sleep(0.02)
        return found


def ended(task: asyncio.Task[Any]) -> Awaitable[Any]:
    task.cancel()
    return asyncio.gather(task, return_exceptions=True)


def gone(proxy: Proxy) -> None:
    proxy.blackout("refuse")


def silent(proxy: Proxy) -> None:
    proxy.blackout("drop")


def failing(proxy: Proxy) -> None:
    proxy.faults.refusals.append(Refusal(b"", "503 Service Unavailable", "ServiceUnavailable"))


@pytest.mark.parametrize("down", [gone, silent, failing])
async def test_apply_waits_for_a_store_that_is_down(
    rig: Rig, proxy: Proxy, store: Store, down: Callable[[Proxy], None]
) -> None:
    down(proxy)
    heard = Heard()
    task = asyncio.ensure_future(Receiver(store, rig.vm, rig.replica, heard.out).follow(POLL_S))
    told = await heard.until("apply.waiting", task, 2)
    assert all(event["vm"] == rig.vm and "s3://" in event["message"] for event in told)
    assert not rig.replica.exists() and not Path(f"{rig.replica}.warmspare").exists()
    proxy.faults.refusals.clear()
    proxy.restore()
    await heard.until("apply.done", task)
    assert same(rig.disk, rig.replica)
    await ended(task)


async def test_apply_goes_on_with_its_replica(behind: Rig, proxy: Proxy, store: Store) -> None:
    rig = behind
    gone(proxy)
    heard = Heard()
    task = asyncio.ensure_future(Receiver(store, rig.vm, rig.replica, heard.out).follow(POLL_S))
    await heard.until("apply.waiting", task)
    proxy.restore()
    await heard.until("apply.done", task)
    assert same(rig.disk, rig.replica)
    await ended(task)


async def test_staging_waits_too_and_a_wrong_vm_is_refused_once_the_store_answers(
    rig: Rig, proxy: Proxy, store: Store
) -> None:
    gone(proxy)
    heard = Heard()
    aws = cast(Aws, None)  # it does not come so far
    stage = Stage(store, "nobody", heard.out, aws, state=rig.home / "stage", settings=StageSettings())
    task = asyncio.ensure_future(stage.follow(POLL_S))
    told = await heard.until("stage.waiting", task, 2)
    assert told[0]["vm"] == "nobody" and told[0]["seconds"] == POLL_S
    proxy.restore()
    with pytest.raises(ConfigError, match="has no restore point"):
        await task


async def refused(rig: Rig, store: Store, kind: type[Exception], says: str, vm: str = "") -> None:
    """Both followers end at once, and have not waited."""
    heard = Heard()
    aws = cast(Aws, None)
    for run in (
        Receiver(store, vm or rig.vm, rig.replica, heard.out),
        Stage(store, vm or rig.vm, heard.out, aws, state=rig.home / "stage", settings=StageSettings()),
    ):
        with pytest.raises(kind, match=says):
            await run.follow(POLL_S)
    assert not [event for event in heard.events if event["event"].endswith(".waiting")]


async def test_what_waiting_can_not_mend_is_refused(
    rig: Rig, proxy: Proxy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong VM; no repository there; no such bucket; a right that is missing; wrong keys."""
    await refused(rig, store, ConfigError, "no restore point", vm="nobody")
    for uri, url, kind, says in (
        (f"{rig.repo}-other", proxy.url, ConfigError, "there is no warmspare repository here"),
        (str(rig.home / "nothing"), None, ConfigError, "there is no warmspare repository here"),
        ("s3://no-such-bucket-here/x", proxy.url, StoreError, "bucket"),
    ):
        other = open_store(uri, endpoint_url=url)
        await refused(rig, other, kind, says)
        await other.close()
    proxy.faults.refusals.append(Refusal(b"^GET ", "403 Forbidden", "AccessDenied"))
    await refused(rig, store, StoreError, "denied|refused|right")
    proxy.faults.refusals.clear()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not it")
    other = open_store(rig.repo, endpoint_url=proxy.url)
    await refused(rig, other, StoreError, "key|signature|refused")
    await other.close()


@pytest.mark.parametrize("answer", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_server_that_dns_does_not_know(rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    """A name that does not exist, of a server that never answered, is a wrong one; where no resolver answers nothing is
    known. Simulated: tests have no name server."""

    async def resolve(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(answer, "as getaddrinfo says it")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    store = open_store(rig.repo, endpoint_url="http://nowhere.invalid:9")
    if answer == socket.EAI_NONAME:
        await refused(rig, store, StoreError, "name can't be resolved")
    else:
        heard = Heard()
        task = asyncio.ensure_future(Receiver(store, rig.vm, rig.replica, heard.out).follow(POLL_S))
        assert "can't be resolved" in (await heard.until("apply.waiting", task, 2))[0]["message"]
        await ended(task)
    await store.close()


def test_a_replica_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    """What fails on this host is no outage of the store."""
    rig = Rig(tmp_path)
    noise_disk(rig.disk, MIB)
    rig.sync()
    for path in (tmp_path, *tmp_path.parents[:2], Path(rig.repo), *Path(rig.repo).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    denied = as_nobody("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, "--follow")
    assert denied.code == 4 and "ermission" in denied.stderr and not denied.all("apply.waiting")

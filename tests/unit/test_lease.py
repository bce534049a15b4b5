"""Leases: one holder at a time, takeover of the dead and the expired only, loss noticed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import asdict, replace

from rigs.paths import as_here
from warmspare.errors import LeaseError, StoreError
from warmspare.store import lease as lease_module
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.lease import Holder, Lease

KEY = "vms/v/lease.json"


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    """An empty repository."""
    made = DirectoryStore(str(tmp_path / "repository"))
    yield made
    await made.close()


def path(store: DirectoryStore) -> Path:
    return Path(store.uri) / KEY


def stored(store: DirectoryStore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path(store).read_bytes())
    return found


def elsewhere(ttl_s: float = 60.0) -> Holder:
    """A holder on another host, of which nothing is known but its lease."""
    return replace(Holder.this_process(ttl_s), host="other-host", boot_id="another-boot", pid=4242)


def age(store: DirectoryStore, seconds: float) -> None:
    """Make the lease's object as old as this, by the store's clock."""
    then = time.time() - seconds
    os.utime(path(store), (then, then))


async def take(store: DirectoryStore, **more: Any) -> bool:
    async with Lease.hold(store, KEY, **more) as lease:
        lease.check()
        return True


async def test_take_and_give_back(store: DirectoryStore) -> None:
    async with Lease.hold(store, KEY, ttl_s=60) as lease:
        lease.check()
        assert not lease.lost.is_set()
        body = stored(store)
        assert (body["pid"], body["ttl_s"], body["free"]) == (os.getpid(), 60, False)
        assert body["host"] and body["boot_id"] and body["process_start"] > 0
    assert stored(store)["free"] is True
    assert await take(store)


async def test_two_cannot_hold_it(store: DirectoryStore) -> None:
    async with Lease.hold(store, KEY, ttl_s=60):
        before = path(store).read_bytes()
        with pytest.raises(LeaseError) as caught:
            await take(store)
        text = str(caught.value)
        assert f"process {os.getpid()} on {stored(store)['host']} holds the lease" in text
        assert "runs out at 20" in text and " UTC" in text and KEY in text
        assert caught.value.exit_code == 6 and caught.value.retryable
        assert path(store).read_bytes() == before
    assert await take(store)


async def test_another_hosts_lease_is_respected_until_it_is_old(store: DirectoryStore) -> None:
    await store.put(KEY, elsewhere(60).encode())
    with pytest.raises(LeaseError, match="process 4242 on other-host"):
        await take(store)
    age(store, 55)
    with pytest.raises(LeaseError):
        await take(store)
    age(store, 63)
    assert await take(store)


async def test_expiry_is_judged_by_the_stores_clock(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put(KEY, elsewhere(60).encode())
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this host's clock is far ahead
    with pytest.raises(LeaseError):
        await take(store)
    real_now = store.now

    async def later() -> float:
        return await real_now() + 100

    monkeypatch.setattr(store, "now", later)
    assert await take(store)


def process_that_took_it(store: DirectoryStore) -> subprocess.Popen[bytes]:
    """A process that holds the lease until it is killed."""
    script = (
        "import asyncio, sys\n"
        "from warmspare.store.directory.directory_store import DirectoryStore\n"
        "from warmspare.store.lease import Lease\n"
        "async def main():\n"
        "    async with Lease.hold(DirectoryStore(sys.argv[1]), sys.argv[2], ttl_s=3600):\n"
        "        print('held', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    environment = as_here()
    process = subprocess.Popen([sys.executable, "-c", script, store.uri, KEY], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.stdout.close()
    return process


@pytest.mark.program
async def test_takeover_from_a_dead_process_but_not_from_a_live_one(store: DirectoryStore) -> None:
    process = process_that_took_it(store)
    try:
        with pytest.raises(LeaseError, match=f"process {process.pid} on "):
            await take(store)
    finally:
        process.kill()
    while " Z " not in Path(f"/proc/{process.pid}/stat").read_text():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert stored(store)["pid"] == process.pid and stored(store)["free"] is False
    assert await take(store)  # it ended, though its parent has not collected it
    process.wait()
    assert stored(store)["pid"] == os.getpid()


async def test_takeover_when_the_pid_was_reused(store: DirectoryStore) -> None:
    mine = Holder.this_process(3600)
    await store.put(KEY, replace(mine, token="x", process_start=mine.process_start - 1).encode())
    assert await take(store)


@pytest.mark.parametrize("field", ["boot_id", "pid_namespace"])
async def test_no_takeover_of_a_pid_that_means_nothing_here(store: DirectoryStore, field: str) -> None:
    """Another boot, or a container beside this one: that the pid does not live here says nothing."""
    mine = Holder.this_process(3600)
    for other in ("", "another"):
        unknown = replace(mine, token="x", pid=2**22 - 1, **{field: other})
        await store.put(KEY, unknown.encode())
        with pytest.raises(LeaseError):
            await take(store)
    await store.put(KEY, replace(mine, token="x", pid=2**22 - 1).encode())
    assert await take(store)


@pytest.mark.parametrize("ending", ["free", "old", "dead"])
async def test_racing_takers_have_one_winner(store: DirectoryStore, ending: str) -> None:
    holder = elsewhere(60)
    if ending == "free":
        holder = replace(holder, free=True)
    if ending == "dead":
        holder = replace(Holder.this_process(60), token="x", process_start=1)
    others = [DirectoryStore(store.uri) for _ in range(4)]
    for round_number in range(5):
        await store.put(KEY, replace(holder, renewed=round_number).encode())
        if ending == "old":
            age(store, 1000)
        inside = most = 0

        async def taker(mine: DirectoryStore) -> bool:
            nonlocal inside, most
            try:
                async with Lease.hold(mine, KEY):
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0.1)
                    inside -= 1
                    return True
            except LeaseError:
                return False

        results = await asyncio.gather(*(taker(mine) for mine in others))
        assert sum(results) == 1 and most == 1
    for mine in others:
        await mine.close()


async def until(true: Callable[[], bool]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def runs_out(lease: Lease) -> bool:
    """Whether it does not hold now."""
    try:
        lease.check()
    except LeaseError:
        return True
    return False


async def test_renewal_keeps_it(store: DirectoryStore) -> None:
    async with Lease.hold(store, KEY, ttl_s=3.0) as lease:
        first = path(store).stat().st_mtime_ns
        await until(lambda: stored(store)["renewed"] >= 2)
        lease.check()
        assert path(store).stat().st_mtime_ns > first
    assert stored(store)["free"] is True


async def test_loss_is_noticed(store: DirectoryStore) -> None:
    async with Lease.hold(store, KEY, ttl_s=0.6) as lease:
        lease.check()
        await store.put(KEY, elsewhere().encode())  # taken, against the rules
        await asyncio.wait_for(lease.lost.wait(), 60)
        with pytest.raises(LeaseError, match="the lease was lost") as caught:
            lease.check()
        assert caught.value.exit_code == 6
    assert stored(store) == asdict(Holder.decode(path(store).read_bytes())) | {"host": "other-host"}
    assert stored(store)["free"] is False  # another's is not given back


async def test_loss_of_the_object_is_noticed(store: DirectoryStore) -> None:
    async with Lease.hold(store, KEY, ttl_s=0.6) as lease:
        await store.delete([KEY])
        await asyncio.wait_for(lease.lost.wait(), 60)
        with pytest.raises(LeaseError):
            lease.check()
    assert await store.head(KEY) is None


async def test_a_store_that_fails_for_a_while(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.replace
    failing = [3]

    async def shaky(key: str, data: bytes, *, etag: str | None) -> Any:
        if failing[0]:
            failing[0] -= 1
            raise StoreError("gone fishing", retryable=True)
        return await real(key, data, etag=etag)

    async with Lease.hold(store, KEY, ttl_s=2.4) as lease:
        monkeypatch.setattr(store, "replace", shaky)
        await until(lambda: failing == [0])
        lease.check()
        failing[0] = 10**9
        await until(lambda: runs_out(lease))
        with pytest.raises(StoreError, match="fishing"):
            await lease.confirm()
        failing[0] = 0
        await lease.confirm()  # nobody took it: it is ours again
        lease.check()


async def test_a_store_that_is_away_until_the_lease_has_run_out(store: DirectoryStore, tmp_path: Path) -> None:
    """Its directory is moved away and back."""
    root = Path(store.uri)
    async with Lease.hold(store, KEY, ttl_s=1.2) as lease:
        root.rename(tmp_path / "away")
        await until(lambda: runs_out(lease))
        with pytest.raises(StoreError, match="directory is gone"):
            await lease.confirm()
        (tmp_path / "away").rename(root)
        await lease.confirm()  # nobody took it: it is ours again
        lease.check()


async def test_a_lease_that_ran_out_and_was_taken_is_lost(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Lease.hold(store, KEY, ttl_s=30) as lease:
        real = lease_module._clock
        monkeypatch.setattr(lease_module, "_clock", lambda: real() + 31)  # the host slept
        await store.put(KEY, elsewhere().encode())
        for _ in range(2):
            with pytest.raises(LeaseError, match="lost"):
                await lease.confirm()
        assert lease.lost.is_set()


async def test_a_renewal_whose_answer_is_lost_is_ours(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.replace
    lose = [False]

    async def lossy(key: str, data: bytes, *, etag: str | None) -> Any:
        info = await real(key, data, etag=etag)
        if lose[0]:
            lose[0] = False
            raise StoreError("answer lost", retryable=True)
        return info

    monkeypatch.setattr(store, "replace", lossy)
    async with Lease.hold(store, KEY, ttl_s=2.4) as lease:
        lose[0] = True
        await until(lambda: not lose[0])
        before = stored(store)["renewed"]
        await until(lambda: stored(store)["renewed"] > before)  # and it goes on
        lease.check()
    assert stored(store)["free"] is True


async def test_a_renewal_that_hangs_is_cut_off(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(600)

    async with Lease.hold(store, KEY, ttl_s=0.6) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(store, "replace", hang)
            await until(lambda: runs_out(lease))
        await until(lambda: not runs_out(lease))  # the next renewal


async def test_expiry_is_noticed_even_if_the_renewal_never_ran(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Lease.hold(store, KEY, ttl_s=30) as lease:
        lease.check()
        real = lease_module._clock
        monkeypatch.setattr(lease_module, "_clock", lambda: real() + 31)  # the host slept
        with pytest.raises(LeaseError):
            lease.check()
        await lease.confirm()


async def test_a_cancel_gives_it_back_and_is_not_swallowed(store: DirectoryStore) -> None:
    held = asyncio.Event()

    async def run() -> None:
        async with Lease.hold(store, KEY, ttl_s=60):
            held.set()
            await asyncio.sleep(600)

    task = asyncio.create_task(run())
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert task.cancelled()
    assert stored(store)["free"] is True
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("lease ")]


async def test_an_error_of_the_block_goes_on(store: DirectoryStore) -> None:
    with pytest.raises(RuntimeError, match="of the block"):
        async with Lease.hold(store, KEY):
            raise RuntimeError("of the block")
    assert stored(store)["free"] is True


async def test_a_cancel_while_taking_it_leaves_it_free(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.replace
    written = asyncio.Event()

    async def slow(key: str, data: bytes, *, etag: str | None) -> Any:
        info = await real(key, data, etag=etag)
        if not written.is_set():
            written.set()
            await asyncio.sleep(600)  # the answer is on its way
        return info

    monkeypatch.setattr(store, "replace", slow)
    task = asyncio.create_task(take(store))
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stored(store)["free"] is True


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"{" * 5000,
        b"\xff\xfe",
        b'{"token": 1}',
        Holder.this_process(60).encode().replace(b'"pid": ', b'"pid": 1e400'),
        Holder.this_process(60).encode().replace(b'"ttl_s": 60', b'"ttl_s": NaN'),
        Holder.this_process(60).encode().replace(b'"pid": ', b'"pid": -'),
        Holder.this_process(60).encode().replace(b'"free": false', b'"free": false, "free": true'),
        Holder.this_process(60).encode().replace(b'"renewed": 0', b'"renewed": ' + b"9" * 5000),
        Holder.this_process(60).encode().replace(b'"pid": ', b'"pid": true, "x": '),
        Holder.this_process(60).encode().replace(b'"pid": ', b'"pid": 99999999999999999'),
    ],
)
async def test_a_lease_that_cannot_be_read_is_held_until_it_is_old(store: DirectoryStore, body: bytes) -> None:
    assert Holder.decode(body) is None
    await store.put(KEY, body)
    with pytest.raises(LeaseError, match="an unknown program holds the lease"):
        await take(store, ttl_s=60)
    age(store, 70)
    assert await take(store, ttl_s=60)


def test_a_holder_survives_encoding() -> None:
    holder = replace(Holder.this_process(12.5), renewed=3, host="größe")
    assert Holder.decode(holder.encode()) == holder
    assert Holder.this_process(1).token != Holder.this_process(1).token
    assert not holder.is_dead


def test_what_a_lease_looks_like() -> None:
    """Senders of other versions read it, and it is written again and again: not a byte of it changes by itself."""
    stated = Holder("t", "gr\u00f6\udce4", "b", "n", 7, -1, 60.0, 2).encode()
    assert stated == (
        b'{"boot_id": "b", "free": false, "host": "gr\\u00f6\\udce4", "pid": 7, "pid_namespace": "n", '
        b'"process_start": -1, "renewed": 2, "token": "t", "ttl_s": 60.0}'
    )
    assert Holder.decode(stated.replace(b"\\udce4", b"").replace(b"{", b'{"later": [1], ')) == Holder(
        "t", "gr\u00f6", "b", "n", 7, -1, 60.0, 2
    )


def aged(store: DirectoryStore, holder: Holder, seconds: float) -> None:
    path(store).parent.mkdir(parents=True, exist_ok=True)
    path(store).write_bytes(holder.encode())
    age(store, seconds)


async def test_a_dead_holders_lease_from_before_the_stores_clock_was_put_back(store: DirectoryStore) -> None:
    """It would be held for a day; nobody renews it, so it is taken once a living holder would have."""
    aged(store, elsewhere(ttl_s=0.4), -86400)
    began, told = time.monotonic(), list[tuple[float, str]]()
    assert await take(store, ttl_s=60, on_watch=lambda seconds, why: told.append((seconds, why)))
    assert [seconds for seconds, _ in told] == [0.4 + lease_module.CLOCK_GRAIN_S] and KEY in told[0][1]
    assert time.monotonic() - began >= 0.4 + lease_module.CLOCK_GRAIN_S


@pytest.mark.parametrize("ttl_s", [300.0, 86_400.0, 900_000.0])
async def test_a_lifetime_that_no_sender_asks_for_counts_for_the_usual(store: DirectoryStore, ttl_s: float) -> None:
    aged(store, elsewhere(ttl_s=ttl_s), 10)
    with pytest.raises(LeaseError, match=rf"\(in 5[0-9] s\) unless renewed; it asks for {ttl_s:.0f} s, which no"):
        await take(store)
    age(store, 70)
    assert await take(store)


@pytest.mark.parametrize("dated_s", [-86_400.0, -400 * 365 * 86_400.0])
async def test_an_absurd_lease_of_the_future_is_watched_like_any_other(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, dated_s: float
) -> None:
    monkeypatch.setattr(lease_module, "TTL_S", 0.3)
    aged(store, elsewhere(ttl_s=900_000.0), dated_s)
    told = list[tuple[float, str]]()
    assert await take(store, on_watch=lambda seconds, why: told.append((seconds, why)))
    assert [seconds for seconds, _ in told] == [0.3 + lease_module.CLOCK_GRAIN_S]
    assert "dated ahead of the store's clock" in told[0][1]


async def test_a_living_holders_lease_from_before_the_stores_clock_was_put_back(store: DirectoryStore) -> None:
    holder = elsewhere(ttl_s=2.0)
    aged(store, holder, -86400)

    async def renew() -> None:
        for count in range(1, 100):
            await asyncio.sleep(0.2)
            aged(store, replace(holder, renewed=count), 0)

    renewing = asyncio.create_task(renew())
    try:
        with pytest.raises(LeaseError, match=r"process 4242 on other-host holds the lease.*\(in 2 s\)"):
            await take(store)
    finally:
        renewing.cancel()


async def test_the_stores_clock_is_put_forward_beside_a_living_holder(store: DirectoryStore) -> None:
    """Its lease seems old and is taken; it finds that before it publishes anything."""
    async with Lease.hold(store, KEY, ttl_s=0.6) as lease:
        age(store, 86400)
        stored_token = stored(store)["token"]
        other = elsewhere()
        info = await store.head(KEY)
        assert info is not None
        watcher = Lease(store, KEY, 60)
        await watcher._refuse_if_held(info, replace(other, token=stored_token))  # not refused
        assert await store.replace(KEY, watcher._me.encode(), etag=info.etag)
        with pytest.raises(LeaseError, match="the lease was lost"):
            while True:
                await lease.confirm()
                await asyncio.sleep(0.05)

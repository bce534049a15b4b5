"""Leases against every store (tests/unit/test_lease.py holds their rules)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from warmspare.errors import LeaseError
from warmspare.store.contract import Store
from warmspare.store.lease import Holder, Lease

KEY = "vms/v/lease.json"


async def test_one_holder_at_a_time(opener: Callable[[], Store]) -> None:
    stores = [opener(), opener(), opener()]
    inside = most = 0
    everybody_asked = asyncio.Event()
    asked = 0

    async def take(store: Store) -> bool:
        nonlocal inside, most, asked
        try:
            async with Lease.hold(store, KEY) as lease:
                inside += 1
                most = max(most, inside)
                asked += 1
                if asked == len(stores):
                    everybody_asked.set()
                await everybody_asked.wait()
                lease.check()
                inside -= 1
                return True
        except LeaseError:
            asked += 1
            if asked == len(stores):
                everybody_asked.set()
            return False

    assert sorted(await asyncio.gather(*map(take, stores))) == [False, False, True]
    assert most == 1
    assert json.loads(await stores[0].get(KEY))["free"] is True


async def test_takeover_renewal_and_loss(store: Store) -> None:
    dead = replace(Holder.this_process(3600), token="x", process_start=1)
    await store.put(KEY, dead.encode())
    async with Lease.hold(store, KEY, ttl_s=0.9) as lease:
        await asyncio.sleep(1.1)  # longer than it lasts unrenewed
        lease.check()
        with pytest.raises(LeaseError, match="holds the lease"):
            async with Lease.hold(store, KEY):
                pass
        await store.put(KEY, dead.encode())
        await asyncio.wait_for(lease.lost.wait(), 5)
        with pytest.raises(LeaseError, match="lost"):
            lease.check()
    assert await store.get(KEY) == dead.encode()

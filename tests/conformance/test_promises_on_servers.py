"""The proof of promises on real servers: what each lacks is found out, and nothing else is held against it."""

from __future__ import annotations

import pytest

from conformance.test_servers import server  # noqa: F401 (a fixture: each of them, running)
from s3facts import SERVERS
from servers import S3Server, make_bucket
from warmspare.store.opening import open_store
from warmspare.store.promises import Promise, examine

C, R, D = Promise.CREATE, Promise.REPLACE, Promise.DELETE
LACKS = {
    "SeaweedFS": set(),
    "Ceph": {Promise.CHECKSUMS},
    "moto": {Promise.CHECKSUMS},
    "LocalBucket": {R, Promise.CHECKSUMS, Promise.UPLOADS},
    "nanio": {C, R, Promise.CHECKSUMS},
    "rclone": {C, R, Promise.CHECKSUMS},
}
assert len(LACKS) == len(SERVERS)


async def test_what_a_server_lacks_is_found_out(
    server: tuple[str, S3Server],  # noqa: F811 (the fixture)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, running = server
    for key, value in running.environment.items():
        monkeypatch.setenv(key, value)
    make_bucket(running, "promises")
    store = open_store("s3://promises/p")
    try:
        examined = await examine(store)
        left = [info.key async for info in store.list("")]
    finally:
        await store.close()
    broken = {tried.promise for tried in examined.broken}
    assert broken == LACKS[name.split()[0]], examined
    assert examined.ignores_creates is (C in broken)
    assert not left, "the probes are removed"

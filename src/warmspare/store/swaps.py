"""Replacing an object only as it is known, also where a server can't do that at once; refuses to replace what another
has written since, as far as looking first can tell.

Nothing that must hold may rest on this: only one who looks between another's look and write is not seen there.
"""

from __future__ import annotations

from warmspare.errors import StoreError
from warmspare.store.contract import ObjectInfo, Store


async def swap(store: Store, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
    """As Store.replace. Where the server does not know the condition, or refuses a tag that is the right one, the tag
    is looked at and the object then written."""
    try:
        info = await store.replace(key, data, etag=etag)
        if info is not None or etag is None:
            return info
    except StoreError as error:
        if error.retryable:
            raise
        if etag is None:
            return await store.head(key) if await store.create(key, data) else None
    # Tags never come back, so one that is there still was the right one a moment ago.
    there = await store.head(key)
    return await store.put(key, data) if there is not None and there.etag == etag else None

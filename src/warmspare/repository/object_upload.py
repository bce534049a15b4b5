"""A local file made an object, with all that a record states of it; owns no file and no key."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from warmspare.format.restore_point import ObjectRef
from warmspare.store.contract import PART_BYTES, Store
from warmspare.threads import in_thread


async def upload_file(store: Store, key: str, source: BinaryIO) -> ObjectRef:
    """All that `source` has from where it stands on. StoreError; OSError from the file."""
    summed = hashlib.sha256()
    async with store.upload(key) as upload:
        while part := await in_thread(source.read, PART_BYTES):
            summed.update(part)
            await upload.write(part)
    return ObjectRef(key, upload.bytes, summed.hexdigest(), upload.crc32c)

"""Objects and uploads of a store that are of no use any more: removed as far as the store lets us; refuses to fail.

Whoever asks decides what is of no use, and remembers what is left where the store refuses.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from warmspare.errors import StoreError
from warmspare.observe.housekeeping import Housekeeping, Trying, denied_by_store
from warmspare.store.contract import StaleUpload, Store

# What a call asks for: of S3, and of a file system.
_DELETE = ("s3:DeleteObject", "unlink")
_LIST = ("s3:ListBucket", "readdir")
_ABORT = ("s3:AbortMultipartUpload", "unlink")
_LIST_UPLOADS = ("s3:ListBucketMultipartUploads", "readdir")


class Clearing:
    """Of one store in one run. What is left is told by `housekeeping`; each call says whether nothing is.

    A server that refused, or did not answer, is not asked for the same again in this run; a file system is, for it does
    not cost anything.
    """

    def __init__(self, store: Store, housekeeping: Housekeeping, *, insist: bool = False) -> None:
        """insist: ask all the same, where clearing up is the work."""
        self._store, self._housekeeping, self._insist = store, housekeeping, insist
        self._far = store.uri.startswith("s3://")

    async def objects(self, keys: Sequence[str]) -> bool:
        """Remove objects, all or as many as can be."""
        return not await self.left(keys)

    async def left(self, keys: Sequence[str]) -> set[str]:
        """The same; those that the store still lists then."""
        left, where = set(keys), self._where(keys[0]) if keys else ""
        if not keys:
            return left
        if self.refused:
            self._housekeeping.failed(self._name(_DELETE), where, count=len(left))
            return left
        try:
            await self._store.delete(keys)
            return set()
        except StoreError as error:
            with self._trying(_LIST, where):
                folders = sorted({key.rpartition("/")[0] + "/" for key in keys})
                left = {info.key for folder in folders async for info in self._store.list(folder)} & left
            if left:
                with self._trying(_DELETE, self._where(min(left))):
                    raise error
                self._housekeeping.failed(self._name(_DELETE), where, count=len(left) - 1)
            return left

    async def below(self, prefix: str, but: Container[str] = ()) -> bool:
        """Remove the objects below a prefix, except these."""
        with self._trying(_LIST, self._where(prefix)):
            return await self.objects([info.key async for info in self._store.list(prefix) if info.key not in but])
        return False

    @property
    def refused(self) -> bool:
        """Whether the server is not asked to remove anything any more."""
        return self._gave_up(_DELETE)

    async def uploads(self, prefix: str, *, older_s: float | None = None) -> bool:
        """Abort what was begun there and not completed; older_s: so long ago by the store's clock, None for all."""
        if self._gave_up(_LIST_UPLOADS):
            return False
        found: list[StaleUpload] | None = None
        with self._trying(_LIST_UPLOADS, self._where(prefix)):
            found = await self._store.stale_uploads(prefix)
        before_s = await self._store.now() - older_s if found and older_s is not None else math.inf
        wanted = [one for one in found or [] if one.began_s < before_s]
        return all([await self.abort(one) for one in wanted]) and found is not None

    def not_listed(self, prefix: str, error: StoreError) -> None:
        """Somebody else was not let list the uploads below a prefix."""
        with self._trying(_LIST_UPLOADS, self._where(prefix)):
            raise error

    async def abort(self, stale: StaleUpload) -> bool:
        """Abort one upload."""
        if self._gave_up(_ABORT):
            self._housekeeping.failed(self._name(_ABORT), self._where(stale.key))
            return False
        with self._trying(_ABORT, self._where(stale.key)):
            await self._store.abort_upload(stale)
            return True
        return False

    def _name(self, names: tuple[str, str]) -> str:
        return names[0] if self._far else names[1]

    def _gave_up(self, names: tuple[str, str]) -> bool:
        return self._far and not self._insist and self._housekeeping.gave_up(names[0])

    def _trying(self, names: tuple[str, str], where: str) -> Trying:
        right = "" if self._far else "write access"
        return self._housekeeping.trying(self._name(names), where, denied=denied_by_store, right=right)

    def _where(self, key: str) -> str:
        return f"{self._store.uri.rstrip('/')}/{key}"

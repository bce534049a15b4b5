"""Runs the real command with a trap at one moment: there it is killed, or a call fails. Made for tests only.

    python victim.py list OUT COMMAND...         run to the end, write every moment met to OUT, one a line
    python victim.py kill NAME ORDINAL COMMAND...  SIGKILL to itself when NAME is met for the ORDINAL-th time
    python victim.py fail NAME ORDINAL COMMAND...  raise there instead: StoreError from a store call, ENOSPC from a
                                                   system call; whatever the run then does is its answer

A moment is `before X` or `after X`, where X is a store call, a system call in one of our modules, or a stage.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import warmspare._native.holes as holes
import warmspare._native.sparse as sparse
import warmspare.apply.block_repair
import warmspare.apply.decode
import warmspare.apply.merge
import warmspare.apply.point_apply
import warmspare.apply.receiver
import warmspare.apply.replica
import warmspare.copy.copier
import warmspare.copy.object_copy
import warmspare.repository.blocks.chain_blocks
import warmspare.repository.chain
import warmspare.repository.disk_tables
import warmspare.repository.vm_index
import warmspare.retain.folding
import warmspare.retain.pack_rewrite
import warmspare.retain.removal
import warmspare.retain.retainer
import warmspare.source.raw
import warmspare.state.header
import warmspare.state.local_table
import warmspare.store.directory.directory_store
import warmspare.store.directory.file_upload
import warmspare.store.lease
import warmspare.sync.diskrun
import warmspare.sync.journal.journal
import warmspare.sync.journal.manifest_file
import warmspare.sync.journal.page_log
import warmspare.sync.local.local_state
import warmspare.sync.local.pagemap
import warmspare.sync.preparing
import warmspare.sync.publishing.lastrun
import warmspare.sync.publishing.sealed
import warmspare.sync.publishing.spool
import warmspare.sync.sender
import warmspare.sync.stages.filter
import warmspare.sync.stages.pack_writer
import warmspare.sync.stages.transfer
from rigs.kills import SPRUNG
from warmspare.cli.main import run
from warmspare.errors import StoreError

PACK_BYTES = 1 << 20  # so that a small disk has several packs

STORE = (
    "get",
    "get_range",
    "head",
    "put",
    "create",
    "replace",
    "list",
    "delete",
    "upload",
    "stale_uploads",
    "abort_upload",
    "now",
)
STAGES: dict[Any, tuple[str, ...]] = {
    warmspare.store.directory.file_upload.FileUpload: ("__aenter__", "write", "__aexit__"),
    warmspare.source.raw.RawSource: ("_load", "check"),
    warmspare.sync.stages.filter.PageFilter: ("span", "hole"),
    warmspare.sync.stages.transfer: ("encode",),
    warmspare.sync.stages.pack_writer.PackWriter: ("add", "finish"),
    warmspare.sync.journal.manifest_file.ManifestFile: ("_flush", "finish"),
    warmspare.sync.publishing.sealed: ("upload_file", "send_files", "complete"),
    warmspare.sync.publishing.spool.Spool: ("take", "drained", "_upload", "_send"),
    warmspare.sync.diskrun.DiskRun: ("transfer", "describe", "commit"),
    warmspare.sync.sender.Sender: ("_transfer", "_commit", "_leave"),
    warmspare.sync.sender: ("publish",),
    warmspare.sync.publishing.lastrun.LastRun: ("complete", "take_in"),
    warmspare.sync.preparing.Preparation: ("disks",),
    warmspare.sync.journal.journal.Journal: ("begin", "seal", "clear"),
    warmspare.sync.journal.page_log.PageLog: ("append", "sync"),
    warmspare.sync.local.pagemap.PageMap: ("begin", "write", "finish", "advance"),
    warmspare.sync.local.local_state.LocalState: ("prepare", "remember", "unsettle", "settle"),
    warmspare.state.header.CacheHeader: ("write",),
    warmspare.state.local_table.HashTable: ("stage", "stage_zero", "staged_root", "commit"),
    warmspare.repository.chain.Repository: ("load", "publish"),
    warmspare.repository.vm_index.VmIndex: ("announce", "note", "change"),
    warmspare.store.lease.Lease: ("_acquire", "_release"),
    warmspare.copy.object_copy.Carrier: ("bring", "_stands", "_send"),
    warmspare.copy.copier.Copier: ("_plan", "_vm", "_point", "_fetch", "_below"),
    warmspare.apply.replica.Replica: ("admit", "move", "open_disk", "resize", "empty"),
    warmspare.apply.receiver.Receiver: ("_chosen", "_heal", "_done"),
    warmspare.apply.point_apply.PointApply: ("_prepare", "_disk"),
    warmspare.apply.merge.Merge: ("run", "_chunk", "_punch", "_range", "_apply"),
    warmspare.apply.merge: ("apply_frame", "apply_zeroed"),
    warmspare.apply.block_repair.BlockRepair: ("repair",),
    warmspare.apply.block_repair: ("write_block",),
    warmspare.repository.blocks.chain_blocks.ChainBlocks: ("gather", "_load"),
    warmspare.retain.folding.Folding: ("fold", "_disk", "_descent"),
    warmspare.retain.pack_rewrite.PackRewrite: ("copy",),
    warmspare.retain.retainer.Retainer: ("look", "_write"),
    warmspare.retain.removal.Prune: ("_retain", "_unneeded", "_remove_all"),
}
SYSTEM = ("fsync", "fdatasync", "ftruncate", "pwrite", "write", "link", "rename", "replace", "unlink")
NATIVE: dict[Any, str] = {sparse: "apply_records", holes: "punch"}


class Trap:
    """Counts moments and springs at the chosen one. Stages run in several threads."""

    def __init__(self, act: str, name: str, ordinal: int) -> None:
        self._act, self._name, self._ordinal = act, name, ordinal
        self._met: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.log: list[str] = []

    def meet(self, name: str) -> None:
        with self._lock:
            self._met[name] += 1
            self.log.append(name)
            here = name == self._name and self._met[name] == self._ordinal
        if not here:
            return
        if self._act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._act == "fail":
            os.write(2, f"{SPRUNG}\n".encode())
            if " store." in name:
                raise StoreError("the store broke, as the test wanted", retryable=True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def trapped(trap: Trap, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call with its two moments."""
    if inspect.isasyncgenfunction(call):

        @functools.wraps(call)
        async def generator(*args: Any, **kwargs: Any) -> Any:
            trap.meet(f"before {name}")
            async for item in call(*args, **kwargs):
                yield item
            trap.meet(f"after {name}")

        return generator
    if inspect.iscoroutinefunction(call):

        @functools.wraps(call)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            trap.meet(f"before {name}")
            done = await call(*args, **kwargs)
            trap.meet(f"after {name}")
            return done

        return coroutine

    @functools.wraps(call)
    def function(*args: Any, **kwargs: Any) -> Any:
        trap.meet(f"before {name}")
        done = call(*args, **kwargs)
        trap.meet(f"after {name}")
        return done

    return function


def system(trap: Trap, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A system call, named with the module and function of ours that makes it; others' are left alone."""

    def function(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        while frame and "/pathlib.py" in frame.f_code.co_filename:
            frame = frame.f_back  # type: ignore[assignment]
        module = frame.f_globals.get("__name__", "") if frame else ""
        if not module.startswith("warmspare.") or module.startswith("warmspare.cli"):
            return call(*args, **kwargs)
        who = f"{name} in {module.removeprefix('warmspare.')}.{frame.f_code.co_qualname}"
        trap.meet(f"before {who}")
        done = call(*args, **kwargs)
        trap.meet(f"after {who}")
        return done

    return function


def stages(command: str) -> dict[Any, tuple[str, ...]]:
    """Where moments are. What stages is loaded only where it is used: it brings the AWS client."""
    if command != "stage":
        return STAGES
    import warmspare.recover.aws.client
    import warmspare.recover.staging.diskplan
    import warmspare.recover.staging.diskstage
    import warmspare.recover.staging.ebs
    import warmspare.recover.staging.stager
    from rigs.aws.quickaws import quick

    quick(setattr)
    return STAGES | {
        warmspare.recover.aws.client.Aws: ("_once",),
        warmspare.recover.staging.digests.Digests: ("put", "total"),
        warmspare.recover.staging.diskstage.Traces: ("forget", "count_attempt"),
        warmspare.recover.staging.diskstage.DiskStage: ("_start", "_blocks"),
        warmspare.recover.staging.ebs.Ebs: ("start", "put", "complete", "completed", "remove"),
        warmspare.recover.staging.filling.Filling: ("_blocks",),
        warmspare.recover.staging.stager.Stage: ("_point", "_expire"),
    }


def set_up(trap: Trap, command: str) -> None:
    """Lay the trap everywhere."""
    warmspare.sync.stages.pack_writer.PACK_BYTES = PACK_BYTES
    store = warmspare.store.directory.directory_store.DirectoryStore
    for name in STORE:
        setattr(store, name, trapped(trap, f"store.{name}", getattr(store, name)))
    for owner, names in stages(command).items():
        title = owner.__name__.removeprefix("warmspare.")
        for name in names:
            setattr(owner, name, trapped(trap, f"{title}.{name}", getattr(owner, name)))
    for kernel, name in NATIVE.items():
        setattr(kernel, name, trapped(trap, f"native.{name}", getattr(kernel, name)))
    for name in SYSTEM:
        setattr(os, name, system(trap, f"os.{name}", getattr(os, name)))


def main() -> int:
    act, *rest = sys.argv[1:]
    if act == "list":
        out, *command = rest
        trap = Trap(act, "", 0)
    else:
        name, ordinal, *command = rest
        trap = Trap(act, name, int(ordinal))
    set_up(trap, command[0])
    code = run(command)
    if act == "list":
        with open(out, "w") as file:
            file.write("\n".join(trap.log))
    return code


if __name__ == "__main__":
    sys.exit(main())

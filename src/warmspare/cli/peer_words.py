"""What users of restic, borg, rclone and AWS's own command type first, and what it is called here; runs none of it."""

from __future__ import annotations

_POINTS = "`warmspare points` lists restore points"
_FILES = "`warmspare files ls --vm NAME /path` lists files of a guest, `warmspare mount` shows disks and partitions"
_RESTORE = "`warmspare files get PATH --to DIR` restores files, `warmspare apply` brings a replica to a restore point"
_SYNC = "`warmspare sync` makes a restore point of disks, or of VMs of the configuration"
_KEEP = (
    "`warmspare prune --keep-daily 14 --yes` lets all other restore points go, by options or the configuration, and "
    "removes what none needs any more"
)
_AUDIT = "`warmspare audit repository` checks what is stored, with --deep every block of it"
_REPAIR = "`warmspare audit repository --repair` puts right what can be"
_FIXED = "there is nothing like it: a restore point is never changed once it is there"
_LOCKS = (
    "there is nothing to unlock: the lease of a run that died ends by itself, at once on its own host and elsewhere "
    "after a minute"
)
_SIZES = "`warmspare points` shows how much each restore point changed and sent"
_EXPORT = "`warmspare apply` writes the disks of a restore point, `warmspare failback-export` those of a VM in AWS"
_KEYS = (
    "there are no passwords of repositories: what is stored is encrypted as its bucket is, or by `encryption` of the "
    "configuration; see `warmspare config example`"
)
_COPY = "`warmspare copy` takes restore points from one repository to another"
_CONFIG = "`warmspare config example` prints a configuration, `warmspare config check` shows what one means"
_EC2 = "`warmspare stage` writes restore points to EBS snapshots, `warmspare failover` starts VMs from them"
_OWN = "warmspare is updated as it was installed: by pip"

_ANSWERS: tuple[tuple[str, str], ...] = (
    ("snapshots, snapshot, archives, list, list snapshots, lsd", _POINTS),
    ("ls, find, lsf, lsl, tree, ncdu, browse", _FILES),
    ("backup, create, replicate, push, protect", _SYNC),
    ("restore, extract, pull, get", _RESTORE),
    ("forget, delete, rm, remove, purge, expire", _KEEP),
    ("check, verify, fsck, scrub, cryptcheck", _AUDIT),
    ("rebuild-index, repair, repair index, reindex", _REPAIR),
    ("tag, rename, rewrite, recreate, comment, annotate", _FIXED),
    ("umount, unmount", "a `warmspare mount` ends by Ctrl-C, or by `fusermount3 -u DIR`"),
    ("unlock, break-lock, with-lock, list locks", _LOCKS),
    ("stats, info, size, du, about, usage", _SIZES),
    ("compare", "`warmspare diff A B --vm NAME` says what differs between two restore points"),
    ("cat, dump, export, export-tar, import-tar, convert", _EXPORT),
    ("key, passwd, password", _KEYS),
    ("compact, gc, cleanup, clean", "`warmspare prune` removes what no restore point needs any more"),
    (
        "cache",
        "nothing of a repository is cached but what a sync keeps in its state directory, and that may be deleted",
    ),
    ("copyto, move, moveto, cp, mv, s3 sync, s3 cp", _COPY),
    ("remote, configure, listremotes, show", _CONFIG),
    ("s3, s3 mb, mb, mkdir", "`warmspare init` makes a repository in a bucket that is there"),
    ("s3 ls", _POINTS),
    ("ec2, run-instances, import-image, import-snapshot, launch, start", _EC2),
    ("ebs", _EC2),
    ("test, rehearse, simulate", "`warmspare drill` boots a VM alone and judges whether it comes up"),
    ("failback, revert", "`warmspare failback-export` writes the disks for the way home"),
    ("self-update, selfupdate, upgrade, migrate, update", _OWN),
    ("serve, rcd, nbd", "there is no server: a repository is a directory, or a prefix of a bucket"),
    ("generate, completion, genautocomplete", "completion and man pages are there once warmspare is installed by pip"),
)
WORDS: dict[str, str] = {word: answer for words, answer in _ANSWERS for word in words.split(", ")}
"""By a command of theirs, in one word or two, what is said."""

OPTIONS: dict[str, str] = {
    "--from-repo": "--from",
    "--repository": "--repo",
    "--target": "--to",
    "--snapshot": "--at",
    "--read-data": "--deep",
    "--host": "--vm",
    "--limit-upload": "--limit",
    "--bwlimit": "--limit",
    "-n": "--dry-run",
}
"""By an option of theirs, ours: said where the command has it."""


def answer(words: list[str]) -> str:
    """What is said to who typed this; "" where the words are no peer's. Options between two words are none of them."""
    plain = [word for word in words if not word.startswith("-")][:2]
    return WORDS.get(" ".join(plain), "") or WORDS.get("".join(plain[:1]), "")

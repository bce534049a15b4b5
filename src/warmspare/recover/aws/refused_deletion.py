"""Deleting what AWS holds for us and nobody needs any more: gone is gone, whoever did it; owns what a refusal means.

A lock, an image, a policy, or a service that made the thing its own stand against deleting it. AWS documents a code
for few of them, so every answer that refuses this one thing is such a reason, known or not: the thing is kept, and
asked for again later. All else says that nothing can be deleted now (no connection, credentials, too many requests),
and is raised. Nobody waits long for rubbish. AWS documents: "Delete an Amazon EBS snapshot", "Amazon EBS snapshot
lock", "Considerations for Recycle Bin", "Protect an AMI from deregistration", "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from warmspare.errors import by_hand
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws

PATIENCE_S: Final = 30.0
GONE: Final = frozenset({"InvalidSnapshot.NotFound", "InvalidSnapshotID.NotFound", "InvalidVolume.NotFound"})
# Of whoever asks, and of every request in this account: nothing else could be deleted either.
_ACCOUNT: Final = frozenset(
    {
        "AuthFailure",
        "Blocked",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "OptInRequired",
        "PendingVerification",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
FORBIDDEN: Final = (
    "a policy of the account or of its organisation forbids it",
    by_hand("whoever made that policy can except it"),
)
# By how the thing's ID begins: (what AWS's sentence has, what that means, what to do); the first that fits.
SENTENCES: Final = {
    "snap-": (
        (
            r"\block(ed|s)?\b",
            "it is locked",
            "it goes once the lock has ended; in governance mode it can be taken away with `aws ec2 unlock-snapshot "
            "--snapshot-id ID`",
        ),
    ),
    "ami-": (
        (
            r"\bderegistration protection\b|\bprotected from deregistration\b",
            "it is protected from deregistration",
            "take that away with `aws ec2 disable-image-deregistration-protection --image-id ID`",
        ),
    ),
    "": (
        (r"\baws backup\b", "AWS Backup keeps it", by_hand("delete its recovery point in AWS Backup, for EC2 can't")),
        (r"\brecycle bin\b", "it lies in the Recycle Bin", by_hand("AWS deletes it there when its retention ends")),
    ),
}
IN_USE: Final = "InvalidSnapshot.InUse"
USED: Final = ("an image uses it", "deregister that, if nobody needs it, with `aws ec2 deregister-image --image-id ID`")
USED_UNNAMED: Final = ("an image uses it", by_hand("deregister that, if nobody needs it"))
CODES: Final = {
    "OperationNotPermitted": ("AWS protects it", by_hand("look in EC2 for what does: a lock, a protection, a service")),
}
OTHERS: Final = ("AWS does not delete it", by_hand("see what AWS says of it"))


async def delete(aws: Aws, operation: str, identity: str, **parameters: Any) -> AwsError | None:
    """Delete a thing (`delete_snapshot`); None once it is gone, else why AWS keeps it. AwsError if nothing can be
    deleted now."""
    try:
        await aws.call("ec2", operation, about=identity, patience_s=PATIENCE_S, **parameters)
    except AwsError as error:
        if error.code in GONE:
            return None
        if not is_of_the_thing(error):
            raise
        return why_kept(error, identity)
    return None


def is_of_the_thing(error: AwsError) -> bool:
    """Whether AWS answered that it does not delete this one."""
    return error.refused and error.code not in _ACCOUNT


def forbidden(error: AwsError) -> bool:
    """Whether a policy denies it, so that no right helps."""
    return error.denied and "explicit deny" in error.said.lower()


def why_kept(error: AwsError, identity: str) -> AwsError:
    """A refusal in words for deleting; AWS's own stand behind them."""
    if error.denied:
        return error.worded(*FORBIDDEN) if forbidden(error) else error
    if error.code == IN_USE:
        image = re.search(r"\bami-[0-9a-f]+\b", error.said)
        return _worded(error, USED, image[0]) if image else error.worded(*USED_UNNAMED)
    for begins, rows in SENTENCES.items():
        for pattern, *words in rows:
            if identity.startswith(begins) and re.search(pattern, error.said, re.IGNORECASE):
                return _worded(error, words, identity)
    return error.worded(*CODES.get(error.code, OTHERS))


def _worded(error: AwsError, words: Sequence[str], identity: str) -> AwsError:
    what, hint = words
    return error.worded(what, hint.replace("ID", identity))

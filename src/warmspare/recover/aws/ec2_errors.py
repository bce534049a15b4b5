"""What EC2's error codes mean for a recovery and what to do about them; owns the words, refuses to decide about tries.

AWS documents: "Error codes for the Amazon EC2 API", "Troubleshoot instance launch issues", "StateReason". Behind these
words AWS's own stand (words.py), for they name the type, the tag or the volume that is meant.
"""

from __future__ import annotations

from typing import Final, Literal

from warmspare.errors import RecoverError, by_hand
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.words import plain, quoted, sentence

NO_CAPACITY: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "Unsupported",
    }
)
"""Codes after which another instance type may do."""

_PLAN = "correct the recovery plan and run again"
_QUOTA = by_hand("have the quota raised (Service Quotas), or end something, and run again")
_REPORT = by_hand("report this")
_ID = "name one of this region and account in the recovery plan"

CODES: Final[dict[str, tuple[str, str]]] = {
    "AMIQuotaExceeded": ("the account has as many images as it may", _QUOTA),
    "AddressLimitExceeded": ("the account has as many Elastic IP addresses as it may", _QUOTA),
    "AttachmentLimitExceeded": (
        "the instance type takes fewer volumes and network cards than the VM has",
        "name a larger instance type in the recovery plan",
    ),
    "Blocked": ("the AWS account is blocked", by_hand("call AWS Support")),
    "ConcurrentSnapshotLimitExceeded": (
        "too many snapshots of this kind of volume are being made",
        "run again when some are completed",
    ),
    "DependencyViolation": ("something else still uses it", by_hand("look what that is, and run again")),
    "IdempotentInstanceTerminated": (
        "the instance of this failover was terminated",
        "clear it with `warmspare failback-done` and fail over anew",
    ),
    "IdempotentParameterMismatch": (
        "this failover began with another recovery plan, and AWS knows its request already",
        "put the plan back as it was; or look for its instance, then `warmspare failback-done` and fail over anew",
    ),
    "IncorrectInstanceState": ("the instance is in no state for this", by_hand("look at it in EC2 and run again")),
    "IncorrectState": ("the thing is in no state for this yet", "run again in a minute"),
    "InstanceLimitExceeded": ("the account runs as many instances of this type as it may", _QUOTA),
    "InsufficientAddressCapacity": ("AWS has no more addresses to give", "run again later"),
    "InsufficientCapacity": (
        "AWS has no machine free for this instance type here",
        "name other instance types in the recovery plan and run again",
    ),
    "InsufficientFreeAddressesInSubnet": (
        "the subnet has no free address left",
        "name a larger subnet in the recovery plan, or free some",
    ),
    "InsufficientHostCapacity": (
        "the dedicated host has no room for this instance type",
        "name other instance types in the recovery plan and run again",
    ),
    "InsufficientInstanceCapacity": (
        "AWS has no machine free for this instance type in this availability zone",
        "name other instance types in the recovery plan, or a subnet in another zone, and run again",
    ),
    "InsufficientReservedInstanceCapacity": (
        "AWS has no reserved machine free for this instance type here",
        "name other instance types in the recovery plan, or a subnet in another zone, and run again",
    ),
    "InsufficientVolumeCapacity": (
        "AWS has no room for this type of volume here",
        "name another type of volumes in the recovery plan and run again",
    ),
    "InvalidAMIID.Malformed": ("this is no ID of an image", "run again; if it stays, report it"),
    "InvalidAMIID.NotFound": ("the image is not there (any more)", "run again, it is made anew"),
    "InvalidAMIID.Unavailable": ("the image can't be used yet, or no more", "run again in a minute"),
    "InvalidAMIName.Malformed": ("AWS does not take the image's name", _REPORT),
    "InvalidBlockDeviceMapping": (
        "AWS does not take the disks as they are mapped",
        "check volumes in the recovery plan (type, iops, throughput) and run again",
    ),
    "InvalidGroup.NotFound": ("there is no such security group here", _ID),
    "InvalidGroupId.Malformed": ("this is no ID of a security group", _PLAN),
    "InvalidIPAddress.InUse": (
        "the fixed address is in use in that subnet",
        "free it, or give another in the recovery plan",
    ),
    "InvalidInstanceID.NotFound": ("there is no such instance here", "check the region; run again"),
    "InvalidInstanceType": ("there is no such instance type here", "correct instance_type in the recovery plan"),
    "InvalidKeyPair.NotFound": ("there is no such key pair here", _ID),
    "InvalidKMSKey": (
        "the key of an encrypted EBS snapshot is disabled, or is being deleted, or is in another state that does not "
        "do",
        "enable it (`aws kms enable-key --key-id KEY`; `aws kms cancel-key-deletion --key-id KEY`), and run again",
    ),
    "InvalidNetworkInterface.InUse": ("the network interface is in use", by_hand("detach it, and run again")),
    "InvalidParameter": ("AWS refused a parameter of the request", _PLAN),
    "InvalidParameterCombination": (
        "AWS refused the request: two of its parameters exclude each other",
        "check that the instance type takes the VM's firmware, network cards and volumes; " + _PLAN,
    ),
    "InvalidParameterValue": (
        "AWS refused a value of the request",
        "check addresses, instance profile, volume settings and tags; " + _PLAN,
    ),
    "InvalidSecurityGroupID.NotFound": ("there is no such security group here", _ID),
    "InvalidSnapshot.NotFound": (
        "an EBS snapshot of this restore point is gone",
        "clear this failover with `warmspare failback-done` and run this again: the newest point that is staged whole "
        "is taken",
    ),
    "InvalidSubnet": ("the subnet can't be used", _PLAN),
    "InvalidSubnetID.NotFound": ("there is no such subnet here", _ID),
    "InvalidUserData.Malformed": (
        "AWS does not take the user data",
        "it may have 16 KiB; correct user_data in the recovery plan",
    ),
    "InvalidVolume.NotFound": ("there is no such volume here", "check the region; run again"),
    "KMSKeyNotAccessibleFault": (
        "the key of the encrypted EBS snapshot can't be used",
        by_hand("allow this role to use it (kms:CreateGrant, kms:Decrypt) and run again"),
    ),
    "MaxIOPSLimitExceeded": ("the account has as many provisioned IOPS as it may", _QUOTA),
    "MaxSpotInstanceCountExceeded": ("the account has as many Spot instances as it may", _QUOTA),
    "MissingParameter": ("AWS misses a parameter in the request", _REPORT),
    "NetworkInterfaceLimitExceeded": ("the account has as many network interfaces as it may", _QUOTA),
    "OperationNotPermitted": (
        "AWS does not permit it: the instance may be protected from termination",
        "take that away (`aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-termination`) and run "
        "again",
    ),
    "PendingVerification": ("AWS is still verifying the account for this region", by_hand("wait, or call AWS Support")),
    "PrivateIpAddressLimitExceeded": ("the network interface has as many addresses as it may", _PLAN),
    "ReservationCapacityExceeded": (
        "the Capacity Reservation that the account's instances go to is full",
        "enlarge it, or name other instance types in the recovery plan, and run again",
    ),
    "ResourceLimitExceeded": ("a limit of the AWS account is reached", _QUOTA),
    "SecurityGroupsPerInterfaceLimitExceeded": ("a network card has more security groups than it may", _PLAN),
    "SnapshotCreationPerVolumeRateExceeded": ("a snapshot of this volume was made just now", "run again in a minute"),
    "TagLimitExceeded": ("there are more than 50 tags", "give fewer in the recovery plan"),
    "Unsupported": (
        "the instance type can't be had in this zone, or does not take this image",
        "name other instance types in the recovery plan: current ones on Nitro, with the VM's firmware",
    ),
    "UnsupportedOperation": ("AWS does not do this with what it was given", _PLAN),
    "VcpuLimitExceeded": ("the account runs as many vCPUs of this family as it may", _QUOTA),
    "VolumeLimitExceeded": ("the account has as much EBS storage of this type as it may", _QUOTA),
}

_TYPE = "name another instance_type in the recovery plan: a current one of Intel's or AMD's, like m7i.large"
_VOLUMES = "correct volumes in the recovery plan (docs/operations.md has what each type takes), and run again"
SENTENCES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "(ena) is required",
        "the instance type has ENA network cards only, and the image does not say that the guest has their driver",
        "clear this failover with `warmspare failback-done` and fail over with `--via register-image`, whose images "
        "say it; `warmspare recover check` looks for the driver in the guest",
    ),
    (
        "nvme",
        "the instance type has its volumes on NVMe, and AWS does not take the image for it",
        "clear this failover with `warmspare failback-done` and fail over with `--via register-image`; `warmspare "
        "recover check` looks for the driver in the guest",
    ),
    (
        "does not support an ami with a boot mode",
        "the instance type does not start by the VM's firmware",
        "name an instance_type on Nitro in the recovery plan (`m7i.large`), or correct firmware there",
    ),
    (
        "does not match the architecture",
        "the instance type has other processors than the image is for",
        "correct instance_type or architecture in the recovery plan",
    ),
    (
        "virtualization type",
        "the instance type does not take images with hardware virtualization",
        _TYPE,
    ),
    (
        "httptokensenforced",
        "the AWS account demands IMDSv2 of every instance, and the recovery plan asks for IMDSv1 too",
        "take `imds` out of the recovery plan and run again; the guest's cloud-init and agents have to know IMDSv2",
    ),
    (
        "is not a valid tag key",
        "a tag's key can't stand in the instance's metadata",
        "rename the tag in the recovery plan, or write metadata_tags = false there, and run again",
    ),
    (
        "metadata option",
        "AWS refused the options of the instance's metadata service",
        "correct imds and metadata_tags in the recovery plan; an organisation's policy may demand others",
    ),
    ("smaller than snapshot", "a volume was to be smaller than its snapshot", _REPORT),
    ("ratio of", "a volume has too little size for its IOPS, or too few IOPS for its throughput", _VOLUMES),
    ("volume size", "a volume is larger or smaller than its type can be", _VOLUMES),
    ("volume iops", "a volume's type does not take so many IOPS, or so few", _VOLUMES),
    ("parameter iops is not supported", "the volumes' type takes no IOPS", _VOLUMES),
    ("parameter throughput is not supported", "the volumes' type takes no throughput", _VOLUMES),
)
"""(part of AWS's sentence in lower case, what it means, what to do). The first that fits counts."""

BY_GUEST: Final = "Client.InstanceInitiatedShutdown"
_ANEW = "run again: another instance is started"
_LOOK = "look at its console output (`aws ec2 get-console-output --latest --instance-id ID`)"
_START = "start it again with `aws ec2 start-instances --instance-ids ID`, and run this again"
_OVER = "clear this failover with `warmspare failback-done`, and fail over anew"
# StateReason of an instance that ended after it had run, or may have.
ENDED: Final[dict[str, tuple[str, str]]] = {
    BY_GUEST: ("the guest shut itself down", f"{_LOOK}, {_START}"),
    "Client.InstanceTerminated": ("it was ended while an image was made of it", _OVER),
    "Client.UserInitiatedShutdown": ("somebody shut it down", f"ask who; then {_OVER}"),
    "Client.UserInitiatedHibernate": ("somebody hibernated it", _START),
    "Server.ScheduledStop": ("AWS stopped it to take its host away", _START),
    "Server.SpotInstanceShutdown": ("AWS took a Spot instance back", _OVER),
    "Server.SpotInstanceTermination": ("AWS took a Spot instance back", _OVER),
}
# StateReason of an instance that ended before it ran, or of an image that failed.
DIED: Final[dict[str, tuple[str, str]]] = {
    BY_GUEST: ("the guest shut itself down at once", f"{_LOOK}, and {_ANEW}"),
    "Client.InstanceTerminated": ("it was ended while an image was made of it", _ANEW),
    "Client.InternalError": (
        "EC2 could not start it; mostly the key of an encrypted volume can't be used",
        f"allow this role to use the key (kms:CreateGrant, kms:Decrypt), and {_ANEW}",
    ),
    "Client.InvalidKMSKey": (
        "the key of an encrypted volume is disabled, or is being deleted, or is in another state that does not do",
        f"enable it (`aws kms enable-key --key-id KEY`; `aws kms cancel-key-deletion --key-id KEY`), and {_ANEW}",
    ),
    "Client.InvalidSnapshot.NotFound": (
        "an EBS snapshot of this restore point was deleted while it started",
        "clear this failover with `warmspare failback-done` and run this again: the newest point that is staged whole "
        "is taken",
    ),
    "Client.UserInitiatedShutdown": ("somebody ended it while it was starting", f"ask who and why, and {_ANEW}"),
    "Client.UserInitiatedHibernate": ("somebody hibernated it while it was starting", f"ask who and why, and {_ANEW}"),
    "Client.VolumeLimitExceeded": (
        "the account had no room for its volumes: EBS storage of this type is at its quota",
        f"have the quota raised (Service Quotas), or delete volumes, and {_ANEW}",
    ),
    "Server.InsufficientInstanceCapacity": (
        "AWS took it on and had no machine free for its type in this zone after all",
        "run again: the next type is started; or name other types, or a subnet in another zone, in the recovery plan "
        "before",
    ),
    "Server.InternalError": ("EC2 failed while starting it", _ANEW),
    "Server.ScheduledStop": ("AWS was about to take its host away", _ANEW),
    "Server.SpotInstanceShutdown": ("AWS took it back, as it does with Spot instances", _ANEW),
    "Server.SpotInstanceTermination": ("AWS took it back, as it does with Spot instances", _ANEW),
}
NO_MACHINE: Final = "Server.InsufficientInstanceCapacity"
# Codes that AWS documents for a launch that failed: whatever was seen of it, the instance never ran.
_LAUNCHES = frozenset(
    {
        "Client.InternalError",
        "Client.InvalidKMSKey",
        "Client.InvalidSnapshot.NotFound",
        "Client.VolumeLimitExceeded",
        NO_MACHINE,
        "Server.InternalError",
    }
)


def failed_to_launch(reason: str) -> bool:
    """Whether a StateReason by itself says that the instance ended before it ran."""
    return _family(reason) in _LAUNCHES


def _family(reason: str) -> str:
    """The code that has the words: of keys there is one for each of their states."""
    head, key, _ = reason.partition("InvalidKMSKey.")
    return f"{head}InvalidKMSKey" if key and head in ("", "Client.") else reason


def explained(error: AwsError) -> AwsError:
    """The same failure in EC2's own terms: by its sentence, where that says more than its code, else by the code."""
    said = error.said.lower()
    for part, what, hint in SENTENCES:
        if part in said and error.status:
            return error.worded(what, hint)
    if (words := CODES.get(_family(error.code))) is None:
        return error
    what, hint = words
    return error.worded(what, hint.replace(" ID ", f" {error.where.rpartition(' ')[2]} "))


def ended(identity: str, state: str, reason: str, said: str = "") -> RecoverError:
    """The error for an instance that ran, or may have, and does no more. reason, said: StateReason, code and text."""
    return _over("instance", ENDED, identity, state, reason, said, _OVER)


def died(identity: str, state: str, reason: str, said: str = "") -> RecoverError:
    """The error for an instance that ended before it ran."""
    return _over("instance", DIED, identity, state, reason, said, _ANEW)


def failed(kind: Literal["image", "snapshot"], identity: str, state: str, reason: str, said: str = "") -> RecoverError:
    """The error for an image or a snapshot that AWS gave up: found again as it is, until it is removed."""
    verb = "deregister-image --image-id" if kind == "image" else "delete-snapshot --snapshot-id"
    hint = f"remove it (`aws ec2 {verb} {identity}`) and run again: it is made anew"
    return _over(kind, {}, identity, state, reason, said, hint)


def _over(
    kind: str, words: dict[str, tuple[str, str]], identity: str, state: str, reason: str, said: str, hint: str
) -> RecoverError:
    default = "AWS tells no more" if not reason and not said else "see what AWS says of it"
    what, hint = words.get(_family(reason), (default, hint))
    hint = hint.replace(" ID`", f" {identity}`")
    return RecoverError(
        f"the {kind} is {plain(state)}: {what}{quoted(reason, sentence(said))}", where=identity, hint=hint
    )

"""Turns what EC2 and EBS report into errors of ours with what to do, behind which AWS's own code and sentence stand;
refuses to quote the client, whose messages may carry credentials. words.py has what of a sentence is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from warmspare.errors import RecoverError, by_hand
from warmspare.outside.parsing import ODD
from warmspare.patience import Again
from warmspare.recover.aws.words import quoted, sentence
from warmspare.store.s3.session.staying import redirected, unreadable

CLIENT_ERRORS: Final = (
    boto.ClientError,
    boto.BotoCoreError,
    boto.HTTPClientError,
    aiohttp.ClientError,
    ResponseParserError,
    ValueError,
    asyncio.TimeoutError,
    OSError,
)
THROTTLED: Final = frozenset(
    {
        "RequestThrottledException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "RequestThrottled",
        "TooManyRequestsException",
        "ConcurrentLimitExceededException",
    }
)
NOT_FOUND: Final = frozenset({"ResourceNotFoundException", "InvalidSnapshot.NotFound"})
# Answers with 5xx that say what is so, and not that something failed: AWS has no machine, address or room free now.
NO_ROOM: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "InsufficientAddressCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientVolumeCapacity",
    }
)
DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
STALE_TOKEN: Final = frozenset({"ExpiredTokenException", "ExpiredToken", "RequestExpired"})
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile"
_RIGHTS = by_hand("compare its rights with the policy in docs/rights.md")
_REGION = by_hand("have the region enabled for the account, or name another")
_MANY = by_hand("have the quota raised (Service Quotas), or stage with a smaller --keep, and run again")
_DENIED = ("AWS does not allow this user or role to do it", _RIGHTS)
_CODES: Final = {
    "AccessDeniedException": _DENIED,
    "AccessDenied": _DENIED,
    "UnauthorizedOperation": _DENIED,
    "UnrecognizedClientException": ("AWS does not know the access key", _KEYS),
    "InvalidClientTokenId": ("AWS does not know the access key", _KEYS),
    "AuthFailure": ("AWS refused the credentials", _KEYS + ", and this host's clock"),
    "SignatureDoesNotMatch": ("AWS refused the signature: the secret key is wrong", _KEYS),
    "InvalidSignatureException": ("AWS refused the signature: the secret key or the clock is wrong", _KEYS),
    "ExpiredTokenException": ("the session token has expired", "get new temporary credentials and run again"),
    "ExpiredToken": ("the session token has expired", "get new temporary credentials and run again"),
    "RequestExpired": (
        "the session token has expired, or this host's clock is wrong",
        "get new temporary credentials, or set the clock, and run again",
    ),
    "ServiceQuotaExceededException": (
        "a quota of the AWS account is used up",
        by_hand("have it raised (Service Quotas, Amazon EBS: 100 pending snapshots, for one), and run again"),
    ),
    "SnapshotLimitExceeded": ("the account has as many snapshots as it may", _MANY),
    "OptInRequired": ("the AWS account is not enabled for this region", _REGION),
    "ConflictException": ("another request had the same client token and said another thing", by_hand("report this")),
}


class AwsError(RecoverError):
    """A failed request to AWS. what: in words of ours; AWS's are put behind them. code, reason: AWS's own ("" without
    an answer), said: its sentence. status: of HTTP, 0 without one. again: what another try is worth. tries: how many
    there were."""

    def __init__(
        self,
        what: str,
        *,
        where: str,
        hint: str,
        again: Again,
        code: str = "",
        reason: str = "",
        said: str = "",
        status: int = 0,
    ) -> None:
        told = quoted(code, said, reason) if status else ""
        super().__init__(what + told, where=where, hint=hint, retryable=again is not Again.NEVER)
        self.code, self.reason, self.said, self.status, self.again = code, reason, said, status, again
        self.tries = 0

    def worded(self, what: str, hint: str) -> AwsError:
        """The same failure in other words of ours."""
        out = AwsError(
            what,
            where=self.where,
            hint=hint,
            again=self.again,
            code=self.code,
            reason=self.reason,
            said=self.said,
            status=self.status,
        )
        out.tries = self.tries
        return out

    @property
    def throttled(self) -> bool:
        """Whether AWS asked for fewer requests."""
        return self.code in THROTTLED or self.status == 429

    @property
    def missing(self) -> bool:
        """Whether the thing is not there, or not yet."""
        return self.code in NOT_FOUND

    @property
    def refused(self) -> bool:
        """Whether AWS answered that it did not do it."""
        return self.code in NO_ROOM or (400 <= self.status < 500 and not self.throttled)

    @property
    def may_be_done(self) -> bool:
        """Whether the request may have been carried out all the same: a refusal is of its last try only, and one for
        the sake of its client token says that there was another before."""
        return self.tries > 1 or not self.refused or self.code.startswith("Idempotent")

    @property
    def denied(self) -> bool:
        """Whether a right is missing."""
        return self.code in DENIED

    @property
    def stale_token(self) -> bool:
        """Whether new credentials may help."""
        return self.code in STALE_TOKEN


def denied_by_aws(error: Exception) -> bool:
    """For `Housekeeping.trying`."""
    return isinstance(error, AwsError) and error.denied


def aws_error(error: Exception, operation: str, where: str, hidden: Iterable[str] = ()) -> AwsError:
    """The error for a failed request. operation: as AWS calls it. where: what it was about. hidden: what the request
    held that nobody may see."""
    if isinstance(error, boto.ClientError):
        return _answered(error, operation, where, hidden)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return AwsError("no AWS credentials were found", where=operation, hint=hint, again=Again.NEVER)
    if isinstance(error, boto.NoRegionError):
        hint = "give --region or set AWS_REGION"
        return AwsError("no AWS region is set", where=operation, hint=hint, again=Again.NEVER)
    if isinstance(error, boto.ProfileNotFound):
        hint = "correct AWS_PROFILE, --profile, or profile in the recovery plan"
        return AwsError("the AWS profile does not exist", where=operation, hint=hint, again=Again.NEVER)
    if isinstance(error, boto.CredentialRetrievalError):
        hint = by_hand("see why what gives them does not (AWS_PROFILE, the instance's role), and run again")
        return AwsError("the AWS credentials could not be fetched", where=operation, hint=hint, again=Again.ALWAYS)
    if isinstance(error, boto.TokenRetrievalError | boto.SSOError):
        hint = by_hand("log in again (`aws sso login`)")
        return AwsError("the AWS login has expired", where=operation, hint=hint, again=Again.NEVER)
    if isinstance(error, boto.SSLError):
        hint = "see whose it is; if it is one to trust, a proxy's, name its file by AWS_CA_BUNDLE"
        return AwsError("AWS's certificate was not accepted", where=operation, hint=hint, again=Again.NEVER)
    if isinstance(error, boto.ParamValidationError):
        what = f"the AWS client refused the parameters of {operation}"
        return AwsError(what, where=where, hint=by_hand("report this"), again=Again.NEVER)
    if redirect := redirected(error):
        what = f"the answer is {redirect}, which is not followed"
        hint = "check AWS_ENDPOINT_URL, the region, and what stands between here and AWS: a proxy, a login page"
        return AwsError(what, where=f"{operation} of {where}", hint=hint, again=Again.NEVER, status=redirect.status)
    hint = "check AWS_ENDPOINT_URL and the network path, and run again later"
    if swelling := unreadable(error):
        what = f"AWS's answer is not read: {swelling}"
        return AwsError(what, where=f"{operation} of {where}", hint=hint, again=Again.FEW)
    if isinstance(error, ODD) and not isinstance(error, ValueError):
        what = "AWS's answer can't be understood"
        return AwsError(what, where=f"{operation} of {where}", hint=hint, again=Again.FEW)
    what = (
        "AWS did not answer in time"
        if isinstance(error, TimeoutError | boto.ReadTimeoutError)
        else ("the connection to AWS broke or could not be made")
    )
    hint = "check the network and the region and run again later"
    return AwsError(what, where=f"{operation} of {where}", hint=hint, again=Again.ALWAYS)


def _answered(error: boto.ClientError, operation: str, where: str, hidden: Iterable[str]) -> AwsError:
    response = error.response
    code, reason = str(response.get("Error", {}).get("Code") or ""), str(response.get("Reason") or "")
    said = sentence(str(response.get("Error", {}).get("Message") or response.get("Message") or ""), hidden)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    again = Again.NEVER
    if code in NO_ROOM:
        pass
    elif code in THROTTLED or status >= 500 or status == 429 or code == "ServiceQuotaExceededException":
        again = Again.ALWAYS
    elif reason in ("INVALID_BLOCK", "CONFLICTING_BLOCK_UPDATE"):
        again = Again.FEW  # a byte was changed on the way, or a try before this one is still being carried out
    if code in _CODES:
        what, hint = _CODES[code]
    elif code in NOT_FOUND:
        what, hint = "AWS does not have it (any more)", "run again: what is missing is made anew"
    elif again is Again.ALWAYS:
        what, hint = f"AWS is overloaded or failing ({status})", "run again later"
    else:
        what, hint = f"AWS refused it ({status})", by_hand("look the code up in AWS's documents of " + operation)
    return AwsError(
        what,
        where=f"{operation} of {where}",
        hint=hint,
        again=again,
        code=code,
        reason=reason,
        said=said,
        status=status,
    )

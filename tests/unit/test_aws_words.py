"""What is shown of AWS's own sentences, and what is left out of them."""

from __future__ import annotations

import base64

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from warmspare.outside.text import shown
from warmspare.patience import Again
from warmspare.recover.aws.aws_errors import NO_ROOM, AwsError, aws_error
from warmspare.recover.aws.ec2_errors import CODES, explained
from warmspare.recover.aws.words import MOST_CHARS, quoted, sentence

TOKEN = "IQoJb3JpZ2luX2VjEJr//////////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQDx" * 4
COMBINATION = "InvalidParameterCombination"
USER_DATA = "#!/bin/sh\nexport DB_PASSWORD=correct-horse\n"
ENCODED = base64.b64encode(USER_DATA.encode()).decode()


def refused(code: str, message: str, operation: str = "RunInstances", status: int = 400) -> AwsError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = ClientError(response, operation)  # type: ignore[arg-type]
    return explained(aws_error(error, operation, "VM db as m5.large", [USER_DATA]))


@pytest.mark.parametrize(
    ("code", "message", "what", "hint"),
    [
        (
            COMBINATION,
            "Enhanced networking with the Elastic Network Adapter (ENA) is required for the 'm5.large' "
            "instance type. Ensure that you are using an AMI that is enabled for ENA.",
            "ENA",
            "register-image",
        ),
        (COMBINATION, "The instance type requires an AMI with NVMe drivers.", "NVMe", "recover check"),
        (
            "InvalidParameterValue",
            "The t2.micro instance type does not support an AMI with a boot mode of UEFI. Only "
            "instance types built on the Nitro System support UEFI.",
            "firmware",
            "Nitro",
        ),
        (
            "InvalidParameterValue",
            "The architecture 'i386' of the specified instance type does not match the "
            "architecture 'x86_64' of the specified AMI.",
            "processors",
            "architecture",
        ),
        (
            "InvalidParameterValue",
            "'Cost Center' is not a valid tag key. Tag keys must match pattern "
            "([0-9a-zA-Z\\\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')",
            "tag's key",
            "metadata_tags = false",
        ),
        (
            "UnsupportedOperation",
            "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account.",
            "IMDSv2",
            "imds",
        ),
        (
            "InvalidParameterValue",
            "Iops to volume size ratio of 600.000000 is too high; maximum is 500.000000",
            "IOPS",
            "volumes",
        ),
        (COMBINATION, "The parameter iops is not supported for st1 volumes.", "IOPS", "volumes"),
        ("InvalidParameterValue", "Invalid volume size: 20000. Maximum is 16384", "larger or smaller", "volumes"),
    ],
)
def test_a_sentence_that_says_more_than_its_code_is_known(code: str, message: str, what: str, hint: str) -> None:
    """And stands behind what is made of it, whole."""
    error = refused(code, message)
    assert what in error.what and hint in error.hint and error.what.partition(" [")[0] != CODES[code][0]
    assert f"[{code}: {message}]" in error.sentence


@pytest.mark.parametrize("code", [*CODES, "SomethingNew", "UnauthorizedOperation", "RequestLimitExceeded"])
def test_no_words_of_ours_replace_those_of_aws(code: str) -> None:
    error = refused(code, "Exactly this is wrong with i-0123456789abcdef0.", status=400)
    assert f" [{code}: Exactly this is wrong with i-0123456789abcdef0.]" in error.what and error.hint
    assert "\n" not in error.sentence


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (
            "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/"
            "AWSReservedSSO_AdministratorAccess_0123456789abcdef/somebody@example.org is not authorized to perform: "
            f"ec2:RunInstances. Encoded authorization failure message: {TOKEN}",
            "arn:aws:sts::123456789012:assumed-role/"
            "AWSReservedSSO_AdministratorAccess_0123456789abcdef/somebody@example.org",
        ),
        (f"The security token {TOKEN} is expired", "characters left out) is expired"),
        (f"Bad: The Canonical String for this request should have been\n'POST\n/\nx-amz-security-token:{TOKEN}", "Bad"),
        ("Value (c2hvcnQ=) for parameter UserData is invalid", "(left out) for parameter"),
        (f"Bad user data: {ENCODED}", "characters left out"),
        ("Near export DB_PASSWORD=correct-horse it breaks", "Near (32 characters left out) it breaks"),
        ("Key AKIAIOSFODNN7EXAMPLE is not known", "Key AKIA… is not known"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "(40 characters left out)"),
    ],
)
def test_what_is_left_out_is_said(message: str, left: str) -> None:
    told = sentence(message, [USER_DATA])
    assert left in told and len(told) <= MOST_CHARS
    for secret in (TOKEN[:60], "correct-horse", ENCODED[:20], "EXAMPLE", "c2hvcn"):
        assert secret not in told


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_whatever_a_server_says_is_one_harmless_line(message: str) -> None:
    told = quoted("Code\x1b[2J\n", sentence(message))
    assert shown(told) == told and "\n" not in told
    assert told.startswith(" [Code2J") and len(sentence(message * 50)) <= MOST_CHARS


def test_a_key_in_any_state_that_does_not_do() -> None:
    for code in ("InvalidKMSKey.InvalidState", "InvalidKMSKey.Disabled", "InvalidKMSKey.SomethingNew"):
        error = refused(code, "Exactly this.")
        assert "kms enable-key" in error.hint and f"[{code}: Exactly this.]" in error.what


@pytest.mark.parametrize("code", sorted(NO_ROOM))
def test_that_there_is_no_room_is_an_answer_and_not_tried_again(code: str) -> None:
    error = refused(code, "None left.", status=500)
    assert error.again is Again.NEVER and error.refused and "[" + code in error.what and error.hint


def test_an_answer_of_no_sentence_is_its_code() -> None:
    assert "[Blocked]" in refused("Blocked", "").what and quoted("", "") == ""
    assert quoted("ValidationException", "Not so.", "INVALID_BLOCK") == " [ValidationException INVALID_BLOCK: Not so.]"
    assert quoted("Server.InternalError", "Server.InternalError: Internal error on launch") == (
        " [Server.InternalError: Internal error on launch]"
    )

"""The least rights in docs/rights.md are what the code calls, no more and no less."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECOVER = ROOT / "src" / "warmspare" / "recover"
# Which modules each command runs; staged.py asks for all of them.
MODULES = {
    "drill": ("staged", "preflight", "instancetype", "isolation", "ami", "launch"),
    "failover": ("staged", "preflight", "instancetype", "ami", "launch", "attempt_leftovers", "importing"),
    "failback-export": ("staged", "launch", "returning", "ebsread", "export"),
    "status": ("staged",),
}
# What a module can do and this command never asks of it.
NOT_ASKED = {
    "drill": {"DescribeKeyPairs"},
    "failover": {"GetConsoleOutput", "GetConsoleScreenshot", "TerminateInstances", "DeregisterImage"},
    "failback-export": {
        "GetConsoleOutput",
        "GetConsoleScreenshot",
        "TerminateInstances",
        "RunInstances",
        "DescribeInstanceStatus",
    },
    "status": set(),
}
# What a request needs besides its own action.
ALSO = {
    "drill": {"ec2:CreateTags"},
    "failover": {"ec2:CreateTags", "ec2:ImportImage", "iam:PassRole"},
    "failback-export": {"ec2:CreateTags"},
    "status": set(),
}


def asked(module: str) -> set[str]:
    """The operations that a module calls, as `service:Operation`."""
    out = set()
    [path] = RECOVER.rglob(f"{module}.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if isinstance(node.func, ast.Name):
            if node.func.id != "delete":
                continue
            service, operation = "ec2", texts[0]
        elif node.func.attr == "call" or (node.func.attr == "pages" and texts[:1] in (["ec2"], ["ebs"])):
            service, operation = texts[0], texts[1]
        elif node.func.attr in ("ask", "pages", "_one") and texts:
            service, operation = "ec2", texts[0]
        else:
            continue
        out.add(f"{service}:" + "".join(part.capitalize() for part in operation.split("_")))
    return out


def policies(name: str) -> dict[str, object]:
    text = (ROOT / "docs" / "rights.md").read_text()
    found = re.search(rf"<!-- policy: {re.escape(name)} -->\n```json\n(.*?)```", text, re.DOTALL)
    assert found, name
    document: dict[str, object] = json.loads(found[1])
    return document


@pytest.mark.parametrize("command", sorted(MODULES))
def test_the_policy_covers_exactly_what_is_called(command: str) -> None:
    calls = {each for module in MODULES[command] for each in asked(module)}
    assert {f"ec2:{name}" for name in NOT_ASKED[command]} <= calls, "what is left out must be something"
    needed = calls - {f"ec2:{name}" for name in NOT_ASKED[command]} | ALSO[command]
    document = policies(command)
    statements = document["Statement"]
    assert isinstance(statements, list) and document["Version"] == "2012-10-17"
    allowed = {action for each in statements for action in each["Action"]}
    of_aws = {action for action in allowed if not action.startswith("s3:")}
    assert of_aws == needed
    assert {action for action in allowed if action.startswith("s3:")} >= {"s3:GetObject", "s3:ListBucket"}
    for each in statements:
        assert each["Effect"] == "Allow" and not any("*" in action for action in each["Action"])


@pytest.mark.parametrize(
    ("command", "tag", "ending", "making"),
    [
        ("drill", "drill", "ec2:TerminateInstances", ["RegisterImage", "RunInstances"]),
        ("failback-export", "export", "ec2:DeleteSnapshot", ["CreateSnapshot"]),
    ],
)
def test_what_may_be_ended_by_its_tag_can_not_be_given_the_tag_later(
    command: str, tag: str, ending: str, making: list[str]
) -> None:
    """Else whoever has these rights tags any instance of the account, and ends it."""
    statements = policies(command)["Statement"]
    assert isinstance(statements, list)
    [by_tag] = [each for each in statements if ending in each["Action"]]
    assert by_tag["Condition"] == {"Null": {f"aws:ResourceTag/warmspare:{tag}": "false"}}
    [tagging] = [each for each in statements if "ec2:CreateTags" in each["Action"]]
    assert tagging["Condition"]["StringEquals"] == {"ec2:CreateAction": making}
    assert {f"ec2:{each}" for each in making} <= {action for each in statements for action in each["Action"]}


def test_a_volume_that_may_be_deleted_by_its_tag_can_not_be_given_the_tag_later() -> None:
    statements = policies("failover")["Statement"]
    assert isinstance(statements, list)
    [deleting] = [each for each in statements if "ec2:DeleteVolume" in each["Action"]]
    assert deleting["Condition"] == {"Null": {"aws:ResourceTag/warmspare:run": "false"}}
    for each in statements:
        if "ec2:CreateTags" in each["Action"]:
            made = each["Condition"].get("StringEquals") == {
                "ec2:CreateAction": ["RegisterImage", "RunInstances", "ImportImage"]
            }
            assert made or each["Resource"] == "arn:aws:ec2:*::image/*", each

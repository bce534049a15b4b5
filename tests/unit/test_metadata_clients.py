"""Who in a guest asks EC2's metadata service with tokens, by their own files; and who can't be told."""

from __future__ import annotations

from pathlib import Path

import botocore
import pytest

from rigs.guests.guesttrees import Tree
from warmspare.recover.readiness import metadata
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.boot_kinds import BootFindingKind as K
from warmspare.recover.readiness.boot_kinds import Family

OLD = "class DataSourceEc2:\n    def wait_for_metadata_service(self):\n        urls = ['http://169.254.169.254']\n"
NEW = OLD + 'API_TOKEN_ROUTE = "latest/api/token"\n'
DEBIAN, RHEL = "/usr/lib/python3/dist-packages", "/usr/lib/python3.6/site-packages"
SOURCE, VERSION = "cloudinit/sources/DataSourceEc2.py", "cloudinit/version.py"


def cloud_init(folder: str, source: str, version: str = "18.5") -> dict[str, bytes | str | Unknown]:
    return {
        "/etc/cloud/cloud.cfg": "users:\n",
        f"{folder}/{SOURCE}": source,
        f"{folder}/{VERSION}": f'__VERSION__ = "{version}"\n_PACKAGED_VERSION = "@@PACKAGED_VERSION@@"\n',
    }


def found(files: dict[str, bytes | str | Unknown]) -> list[tuple[K, str]]:
    said = metadata.of_linux(Tree(files), ("disk", "partition 1"), Family.DEBIAN)
    return [(each.kind, each.found) for each in said]


PYTHON2 = ["/usr/lib/python2.7/site-packages", "/usr/lib/python2.7/dist-packages"]


@pytest.mark.parametrize("folder", [DEBIAN, RHEL, *PYTHON2])
def test_a_cloud_init_that_knows_no_tokens_is_a_finding(folder: str) -> None:
    assert found(cloud_init(folder, NEW)) == []
    [(kind, said)] = found(cloud_init(folder, OLD))
    assert kind is K.IMDS_V1 and said == f"cloud-init 18.5 ({folder}/{SOURCE})"


def test_the_version_of_very_old_ones() -> None:
    old = {**cloud_init(RHEL, OLD), f"{RHEL}/{VERSION}": 'def version():\n    return vr.StrictVersion("0.7.5")\n'}
    assert "cloud-init 0.7.5" in found(old)[0][1]
    assert "of no known version" in found({**old, f"{RHEL}/{VERSION}": ""})[0][1]


def test_one_that_does_not_run_is_none() -> None:
    assert found({}) == []
    assert found({**cloud_init(DEBIAN, OLD), "/etc/cloud/cloud-init.disabled": ""}) == []
    assert found({"/etc/cloud/cloud.cfg": "left by a package that was removed"}) == []
    assert found({f"{DEBIAN}/{SOURCE}": OLD}) == []


@pytest.mark.parametrize("unread", ["/etc/cloud/cloud.cfg", "/usr/lib", DEBIAN, f"{DEBIAN}/{SOURCE}"])
def test_what_can_not_be_read_is_not_known(unread: str) -> None:
    files = {path: data for path, data in cloud_init(DEBIAN, OLD).items() if not path.startswith(unread)}
    [(kind, said)] = found({**files, unread: Unknown("it is damaged"), "/usr/lib/os-release": ""})
    assert kind is K.IMDS_UNKNOWN and "cloud-init" in said and "it is damaged" in said


def test_the_sdk_and_the_agent_of_aws() -> None:
    utils = (Path(botocore.__file__).parent / "utils.py").read_bytes()
    tools: dict[str, bytes | str | Unknown] = {"/usr/bin/aws": "#!", f"{DEBIAN}/botocore/utils.py": utils}
    assert found(tools) == []
    old = utils.replace(metadata.TOKENS, b"")
    [(kind, said)] = found(
        {**tools, f"{DEBIAN}/botocore/utils.py": old, f"{DEBIAN}/botocore/__init__.py": "__version__ = '1.12.0'\n"}
    )
    assert kind is K.IMDS_V1 and "botocore" in said
    [(kind, said)] = found({"/usr/bin/amazon-ssm-agent": "ELF"})
    assert kind is K.IMDS_UNKNOWN and "amazon-ssm-agent" in said


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("@{\nModuleVersion = '1.3.2002730'\n}", None),
        ("@{\nModuleVersion = '1.3.2003975'\n}", None),
        ("@{\nModuleVersion='1.3.2001660'\n}", K.IMDS_V1),
        ("@{\nModuleVersion = '1.3'\n}", K.IMDS_V1),
        ("@{\n}", K.IMDS_UNKNOWN),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_launch_agent_of_windows(text: str, kind: K | None, encoding: str) -> None:
    path = "/ProgramData/Amazon/EC2-Windows/Launch/Module/Ec2Launch.psd1"
    said = metadata.of_windows(Tree({path: text.encode(encoding)}), ("disk", "partition 2"))
    assert [each.kind for each in said] == ([kind] if kind else [])
    config = metadata.of_windows(Tree({"/Program Files/Amazon/Ec2ConfigService/Ec2Config.exe": b"MZ"}), ("disk", "2"))
    assert [each.kind for each in config] == [K.IMDS_UNKNOWN]

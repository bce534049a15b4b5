"""What the reader of a recovery plan says is to be done is done, and the plan is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.remedies import commands_in, remedy
from warmspare.cli.main import run
from warmspare.config.problems import SettingsError
from warmspare.engine.wiring.planfile import USER_DATA_BYTES, load_plan
from warmspare.errors import ConfigError

SUBNET, GROUP = 'subnet = "subnet-0123456789abcdef0"\n', 'security_groups = ["sg-0123456789abcdef0"]\n'
NETWORK = f"[network.dmz]\n{SUBNET}{GROUP}"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param(
            '[vm.a]\nsubnet = "mine"\n' + GROUP,
            "[vm.a]\n" + SUBNET + GROUP,
            marks=remedy("copy its ID from EC2: `aws ec2 describe-subnets`, `aws ec2 describe-security-groups`"),
        ),
        pytest.param(
            "[network.dmz]\n" + SUBNET + "security_groups = []\n[vm.a]\n",
            NETWORK + "[vm.a]\n",
            marks=remedy("write a list of at least one, each once"),
        ),
        pytest.param(
            '[vm.a]\nip = "10.20.0"\n', '[vm.a]\nip = "10.20.0.15"\n', marks=remedy("write it like 10.20.0.15")
        ),
        pytest.param(
            '[vm.a]\ntags = "ops"\n', '[vm.a]\ntags = {Owner = "ops"}\n', marks=remedy('write it like {Owner = "ops"}')
        ),
        pytest.param("[vm.a]\ntags = {Room = 4}\n", '[vm.a]\ntags = {Room = "4"}\n', marks=remedy("put it in quotes")),
        pytest.param(
            '[vm.a]\ntags = {"aws:x" = "1"}\n', '[vm.a]\ntags = {"x" = "1"}\n', marks=remedy("name it otherwise")
        ),
        pytest.param(
            NETWORK + '[vm.a]\nips = "10.20.0.15"\n',
            NETWORK + '[vm.a]\nips = {dmz = "10.20.0.15"}\n',
            marks=remedy('write it like {"VM Network" = "10.20.0.15"}'),
        ),
        pytest.param(
            '[vm.a]\n[vm.b]\nvm = "a"\n', "[vm.a]\n", marks=remedy("take one of the two out: a VM is recovered once")
        ),
        pytest.param('region = "eu-central-1"\n', "[vm.a]\n", marks=remedy("add one for each VM to recover")),
        pytest.param(
            '[vm.a]\ntags = {"a b" = "1"}\n',
            '[vm.a]\ntags = {"a_b" = "1"}\n',
            marks=remedy("write its key with letters, digits and + - = . , _ : @ only, or say metadata_tags = false"),
        ),
        pytest.param(
            '[vm.a]\ntags = {"a b" = "1"}\n',
            '[vm.a]\ntags = {"a b" = "1"}\nmetadata_tags = false\n',
            marks=remedy("write its key with letters, digits and + - = . , _ : @ only, or say metadata_tags = false"),
        ),
        pytest.param("[vm.a]\n" + SUBNET, "[vm.a]\n" + SUBNET + GROUP, marks=remedy("set security_groups too")),
        pytest.param(
            '[vm.a]\ninstance_families = "m7i.large"\n',
            '[vm.a]\ninstance_families = "m7i"\n',
            marks=remedy("write it like m7i"),
        ),
        pytest.param(
            '[vm.a]\nimport_role = "arn:aws:iam::1:role/x"\n',
            '[vm.a]\nimport_role = "x"\n',
            marks=remedy("give its name, not its ARN"),
        ),
        pytest.param(
            NETWORK + '[vm.a]\nip = "10.20.0.15"\nips = {dmz = "10.20.0.15"}\n',
            NETWORK + '[vm.a]\nips = {dmz = "10.20.0.15"}\n',
            marks=remedy("keep ips"),
        ),
        pytest.param(
            '[vm.a]\nips = {dmz = "10.20.0.15"}\n',
            NETWORK + '[vm.a]\nips = {dmz = "10.20.0.15"}\n',
            marks=remedy("add a [network.{…}]"),
        ),
        pytest.param(
            '[vm.a]\ninstance_type = "large"\n',
            '[vm.a]\ninstance_type = "m7i.large"\n',
            marks=remedy("write it like m7i.large"),
        ),
        pytest.param(
            '[vm.a]\nimport_from = "/disk.raw"\n',
            '[vm.a]\nimport_from = "s3://bucket/disk.raw"\n',
            marks=remedy("write s3://BUCKET/KEY"),
        ),
        pytest.param(
            "[vm.a]\nuser_data = {}\n",
            '[vm.a]\nuser_data = {text = "#!/bin/sh"}\n',
            marks=remedy('write {file = "web.sh"} or {text = "…"}'),
        ),
        pytest.param(
            '[vm.a]\nuser_data = {file = "gone.sh"}\n',
            '[vm.a]\nuser_data = {file = "web.sh"}\n',
            marks=remedy("correct it, or put the file at {…}"),
        ),
        pytest.param(
            '[vm.a]\nuser_data = {file = "latin.sh"}\n',
            '[vm.a]\nuser_data = {file = "web.sh"}\n',
            marks=remedy("save it as UTF-8"),
        ),
        pytest.param(
            '[vm.a]\nuser_data = {text = "' + "#" * (USER_DATA_BYTES + 1) + '"}\n',
            '[vm.a]\nuser_data = {text = "' + "#" * USER_DATA_BYTES + '"}\n',
            marks=remedy("make it shorter: it can fetch the rest"),
        ),
        pytest.param(
            "[vm.a]\nvolumes = {type = 'st1'}\n",
            "[vm.a]\nvolumes = {type = 'gp3'}\n",
            marks=remedy("take gp3, and change the others' type when it runs"),
        ),
        pytest.param(
            "[vm.a]\nvolumes = {type = 'gp2', iops = 3000}\n",
            "[vm.a]\nvolumes = {type = 'gp2'}\n",
            marks=remedy("take iops out, or take gp3 or io2"),
        ),
        pytest.param(
            "[vm.a]\nvolumes = {type = 'io2'}\n",
            "[vm.a]\nvolumes = {type = 'io2', iops = 3000}\n",
            marks=remedy("set iops too"),
        ),
        pytest.param(
            "[vm.a]\nvolumes = {type = 'io1', iops = 65000}\n",
            "[vm.a]\nvolumes = {type = 'io1', iops = 64000}\n",
            marks=remedy("set iops to one of these, or take io2, which has up to 256000"),
        ),
        pytest.param(
            "[vm.a]\nvolumes = {type = 'gp2', throughput = 250}\n",
            "[vm.a]\nvolumes = {type = 'gp3', throughput = 250}\n",
            marks=remedy("take throughput out, or take gp3"),
        ),
        pytest.param(
            "[vm.a]\nvolumes = {type = 'gp3', throughput = 1000}\n",
            "[vm.a]\nvolumes = {type = 'gp3', throughput = 1000, iops = 4000}\n",
            marks=remedy("set iops = {…}, or less throughput"),
        ),
    ],
)
def test_it_leads_on(tmp_path: Path, wrong: str, right: str) -> None:
    path = tmp_path / "plan.toml"
    (tmp_path / "latin.sh").write_bytes(b"#!/bin/sh\n# \xe4\n")
    (tmp_path / "web.sh").write_text("#!/bin/sh\n")
    path.write_text(wrong)
    with pytest.raises(SettingsError) as caught:
        load_plan(path)
    assert len(caught.value.problems) == 1
    path.write_text(right)
    load_plan(path)


@remedy("correct them, each as it is said, and run this again")
def test_the_others_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('[vm.a]\nip = "10.20.0"\norder = 0\n')
    with pytest.raises(SettingsError) as caught:
        load_plan(path)
    [words] = commands_in(caught.value.hint)
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "vm.a.ip" in said and "vm.a.order" in said and "2 errors" in said
    path.write_text('[vm.a]\nip = "10.20.0.15"\norder = 1\n')
    run(words)
    assert "the recovery plan" not in capsys.readouterr().err


@remedy("name one by --plan; docs/operations.md has an example")
def test_there_is_no_plan(tmp_path: Path) -> None:
    """The example of the documents is one that is read."""
    path = tmp_path / "plan.toml"
    with pytest.raises(ConfigError):
        load_plan(path)
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    example = next(each for each in text.split("\n```\n")[1:] if "\n[vm." in each and "\n| " not in each)
    path.write_text(example)
    (tmp_path / "web.sh").write_text("#!/bin/sh\n")
    assert load_plan(path).vms

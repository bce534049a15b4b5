"""The recovery plan: every wrong thing in it by line and key, with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import warmspare
from warmspare.config.problems import SettingsError
from warmspare.engine.wiring.planfile import KEYS, load_plan, parse_plan
from warmspare.recover.failover.plan import FAMILIES, Metadata, VmPlan, fits_metadata

NETWORK = '[network."VM Network"]\nsubnet = "subnet-0123456789abcdef0"\nsecurity_groups = ["sg-0123456789abcdef0"]\n'


def parse(text: str) -> list[VmPlan]:
    return list(parse_plan(text, Path("/plans/plan.toml")).vms)


def problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert "--dry-run" in str(caught.value) or len(caught.value.problems) == 1
    return [(each.place.line, each.place.key, str(each)) for each in caught.value.problems]


def test_everything_that_a_plan_can_say(tmp_path: Path) -> None:
    (tmp_path / "boot.sh").write_text("#!/bin/sh\n")
    path = tmp_path / "plan.toml"
    path.write_text(
        'repository = "s3://dr/vmware"\nendpoint_url = "https://s3.example.com"\nregion = "eu-central-1"\n'
        'profile = "dr"\n'
        + NETWORK
        + '[defaults]\nkey_pair = "ops"\ntags = {Owner = "ops"}\nready_within = "10m"\nuser_data = {text = "#!"}\n'
        + '[vm.db]\nvm = "50234567-0000"\norder = 2\ndelay = "30s"\nready = "running"\ntags = {Tier = "1"}\n'
        + 'ips = {"VM Network" = "10.0.0.5"}\ninstance_type = "r7i.large"\nfirmware = "uefi"\narchitecture = "arm64"\n'
        + 'volumes = {type = "gp3", iops = 9000, throughput = 500, initialization_rate = 300, keep = false}\n'
        + 'user_data = {file = "boot.sh"}\nvia = "import-image"\nlicense = "BYOL"\nimport_role = "importer"\n'
        + 'import_from = ["s3://raw-disks/db/0.raw"]\nroot_disk = "Hard disk 2"\ninstance_profile = "db"\n'
        + "[vm.web]\n"
    )
    plan = load_plan(path)
    assert (plan.repository, plan.region, plan.profile) == ("s3://dr/vmware", "eu-central-1", "dr")
    db, web = plan.vms
    assert (db.vm, db.order, db.delay_s, db.ready, db.ready_s) == ("50234567-0000", 2, 30, "running", 600)
    assert db.tags == {"Owner": "ops", "Tier": "1"} and web.tags == {"Owner": "ops"}
    assert db.ips == {"VM Network": "10.0.0.5"} and db.types == ("r7i.large",) and web.families == FAMILIES
    assert (db.volumes.type, db.volumes.iops, db.volumes.throughput_mib_s) == ("gp3", 9000, 500)
    assert db.volumes.place == f"{path}, line 23, vm.db.volumes"
    assert db.volumes.initialization_mib_s == 300 and not db.volumes.keep and web.volumes.keep
    assert db.user_data == "#!/bin/sh\n" and web.user_data == "#!"
    assert (db.via, db.license, db.import_role) == ("import-image", "BYOL", "importer")
    network = web.network("VM Network")
    assert network is not None and network.subnet == "subnet-0123456789abcdef0" and web.network("other") is None
    assert plan.vm("50234567-0000") is db


@pytest.mark.parametrize(
    ("text", "line", "key", "word"),
    [
        ("", None, "", "no [vm.NAME]"),
        ("[vm.a\n", 1, "", "not TOML"),
        ("[vm.a]\norderr = 1\n", 2, "vm.a.orderr", "did you mean order"),
        ("[vm.a]\norder = 0\n", 2, "vm.a.order", "from 1 to 1000"),
        ("[vm.a]\ndelay = 30\n", 2, "vm.a.delay", "duration"),
        ("[vm.a]\nready = 'soon'\n", 2, "vm.a.ready", "status-checks"),
        ("[vm.a]\nip = '10.0.0'\n", 2, "vm.a.ip", "IPv4"),
        ("[vm.a]\nip = '10.0.0.1'\nips = {x = '10.0.0.1'}\n", 2, "vm.a.ip", "exclude each other"),
        (NETWORK + "[vm.a]\nips = {'VM Netwrk' = '10.0.0.1'}\n", 5, "vm.a.ips", "did you mean VM Network"),
        ("[vm.a]\ninstance_type = 'large'\n", 2, "vm.a.instance_type", "like m7i.large"),
        ("[vm.a]\ninstance_type = ['m5.large', 'm5.large']\n", 2, "vm.a.instance_type", "each once"),
        ("[vm.a]\nfirmware = 'efi'\n", 2, "vm.a.firmware", "bios, uefi"),
        ("[vm.a]\nsubnet = 'sg-0123456789abcdef0'\n", 2, "vm.a.subnet", "subnet-0123456789abcdef0"),
        ("[vm.a]\nsubnet = 'subnet-01234567'\n", 2, "vm.a.subnet", "security_groups"),
        ("[network.x]\nsubnet = 'subnet-01234567'\n[vm.a]\n", 1, "network.x", "security_groups is missing"),
        ("[vm.a]\ntags = {'aws:x' = '1'}\n", 2, "vm.a.tags", "not yours"),
        ("[vm.a]\ntags = {'Warmspare:vm' = '1'}\n", 2, "vm.a.tags", "not yours"),
        ("[vm.a]\ntags = {'Cost Center' = '1'}\n", 2, 'vm.a.tags."Cost Center"', "metadata_tags = false"),
        ("[vm.a.tags]\nx = '1'\n'a/b' = '1'\n", 3, 'vm.a.tags."a/b"', "letters, digits"),
        ("[defaults]\ntags = {_index = '1'}\n[vm.a]\n[vm.b]\n", 2, "defaults.tags._index", "starts no instance"),
        ("[vm.a]\ntags = {'..' = '1'}\n", 2, 'vm.a.tags.".."', "starts no instance"),
        ("[vm.a]\nimds = 'v1'\n", 2, "vm.a.imds", "v1-and-v2"),
        ("[vm.a]\nmetadata_tags = 'no'\n", 2, "vm.a.metadata_tags", "true or false"),
        ("[vm.a]\ntags = {x = 1}\n", 2, "vm.a.tags", "in quotes"),
        ("[vm.a]\nvolumes = {type = 'st1'}\n", 2, "vm.a.volumes.type", "starts from"),
        ("[vm.a]\nvolumes = {type = 'io2'}\n", 2, "vm.a.volumes.type", "set iops too"),
        ("[vm.a]\nvolumes = {type = 'gp2', iops = 3000}\n", 2, "vm.a.volumes.iops", "take no iops"),
        ("[vm.a]\nvolumes = {iops = 80001}\n", 2, "vm.a.volumes.iops", "3000 to 80000"),
        ("[vm.a]\nvolumes = {iops = 2999}\n", 2, "vm.a.volumes.iops", "3000 to 80000"),
        ("[vm.a]\nvolumes = {type = 'io1', iops = 64001}\n", 2, "vm.a.volumes.iops", "100 to 64000"),
        ("[vm.a]\nvolumes = {throughput = 751}\n", 2, "vm.a.volumes.throughput", "set iops = 3004"),
        ("[vm.a]\nvolumes = {type = 'io2', iops = 100, throughput = 125}\n", 2, "vm.a.volumes.throughput", "take gp3"),
        ("[defaults]\nvolumes = {iops = 9000}\n[vm.a]\nvolumes = {type = 'gp2'}\n", 4, "vm.a.volumes", "take no iops"),
        ("[defaults]\nvolumes = {type = 'io2'}\n[vm.a]\n[vm.b]\n", 2, "defaults.volumes.type", "set iops too"),
        ("[vm.a]\nuser_data = {}\n", 2, "vm.a.user_data", "file or a text"),
        ("[vm.a]\nuser_data = {file = 'gone.sh'}\n", 2, "vm.a.user_data.file", "No such file"),
        ("[vm.a]\nuser_data = {text = '" + "x" * 16385 + "'}\n", 2, "vm.a.user_data.text", "16 KiB"),
        ("[vm.a]\nvolumes = {initialization_rate = 50}\n", 2, "vm.a.volumes.initialization_rate", "100 to 300"),
        ("[vm.a]\nvolumes = {type = 'gp4'}\n", 2, "vm.a.volumes.type", "gp3"),
        ("[vm.a]\nvia = 'magic'\n", 2, "vm.a.via", "import-image"),
        ("[vm.a]\nimport_from = '/disk.raw'\n", 2, "vm.a.import_from", "s3://BUCKET/KEY"),
        ("[vm.a]\nimport_role = 'arn:aws:iam::1:role/x'\n", 2, "vm.a.import_role", "not its ARN"),
        ("[vm.a]\n[vm.b]\nvm = 'a'\n", 2, "vm.b", "same VM as 'a'"),
        ("repository = 'nowhere'\n[vm.a]\n", 1, "repository", "URI"),
    ],
)
def test_what_is_wrong_is_told_by_line_and_key(text: str, line: int | None, key: str, word: str) -> None:
    found = problems(text)
    assert any(at == line and where == key and word in said for at, where, said in found), found


def test_all_problems_are_found_at_once() -> None:
    found = problems("[vm.a]\norder = 0\nready = 'x'\n[vm.b]\nfirmwar = 'bios'\n")
    assert [line for line, _, _ in found] == [2, 3, 5]


def test_every_key_is_in_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for kind, keys in KEYS.items():
        for key in keys:
            assert f"`{key}`" in text or key in ("network", "vm", "defaults"), f"{kind}: {key}"


def test_volumes_are_judged_as_a_vm_has_them() -> None:
    """The defaults may be half of it."""
    [a] = parse("[defaults]\nvolumes = {type = 'io2'}\n[vm.a]\nvolumes = {iops = 5000}\n")
    assert (a.volumes.type, a.volumes.iops) == ("io2", 5000)


def test_a_tag_may_have_any_key_where_no_metadata_tells_it() -> None:
    text = "[defaults]\ntags = {'Cost Center' = '1'}\n[vm.a]\nmetadata_tags = false\n[vm.b]\nmetadata_tags = %s\n"
    a, _ = parse(text % "false")
    assert a.tags == {"Cost Center": "1"} and not a.metadata.tags
    assert [line for line, *_ in problems(text % "true")] == [2]
    [own] = parse("[defaults]\nimds = 'v1-and-v2'\nmetadata_tags = false\n[vm.a]\nimds = 'v2'\nmetadata_tags = true\n")
    assert own.metadata == Metadata(v1=False, tags=True)


def test_the_tags_of_warmspare_itself_fit_into_metadata() -> None:
    """All keys that stand in its source, and the one of the console."""
    source = Path(warmspare.__file__).parent
    keys = {key for path in source.rglob("*.py") for key in re.findall(r'"(warmspare:[^"{}]+)"', path.read_text())}
    assert {"warmspare:run", "warmspare:vm", "warmspare:drill-until"} <= keys
    assert [key for key in {*keys, "Name"} if not fits_metadata(key)] == []

"""Words of the kernel's command line with which a start ends before anybody can log in."""

from __future__ import annotations

import pytest

from warmspare.recover.readiness.kernels import kernel_options


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ro quiet", []),
        ("ro single", ["single"]),
        ("ro S", ["S"]),
        ("ro 1", ["1"]),
        ("ro 3", []),
        ("systemd.unit=rescue.target", ["systemd.unit=rescue.target"]),
        ("systemd.unit=multi-user.target", []),
        ("systemd.unit=emergency", ["systemd.unit=emergency"]),
        ("rd.break", ["rd.break"]),
        ("rd.break=pre-mount ro", ["rd.break=pre-mount"]),
        ("break=premount", ["break=premount"]),
        ("init=/bin/bash", ["init=/bin/bash"]),
        ("init=/usr/bin/sh", ["init=/usr/bin/sh"]),
        ("init=/usr/lib/systemd/systemd", []),
        ("emergency", ["emergency"]),
        ("ro -- single", []),
        ("singleton", []),
    ],
)
def test_words_that_ask_for_a_shell(line: str, found: list[str]) -> None:
    assert kernel_options.shells(line.split()) == found


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("module_blacklist=nouveau,nvme", "module_blacklist=nouveau,nvme"),
        ("modprobe.blacklist=nvme_tcp", ""),
        ("rd.driver.blacklist=nvme ro", "rd.driver.blacklist=nvme"),
        ("nvme", ""),
        ("modprobe.blacklist=", ""),
    ],
)
def test_words_that_keep_a_driver_out(line: str, word: str) -> None:
    assert kernel_options.blacklist(line.split(), "nvme") == word

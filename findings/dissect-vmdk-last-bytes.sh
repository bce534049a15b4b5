#!/bin/sh
# dissect.hypervisor 3.21 can't read the end of a VMDK whose capacity is no multiple of 8 KiB: its stream reads ahead in
# 8 KiB (dissect.util 3.24), and for the sectors that lie behind the last extent there is no extent to ask. It raises
# IndexError ("list index out of range"), for small disks at the first byte. By sectors (read_sectors, up to
# sector_count) the same disk reads whole and right. VMware's "Virtual Disk Format 5.0" counts the capacity in sectors
# of 512 bytes; that it should be whole grains is advice, which VMware's own open-vmdk does not follow either. qemu-img
# and libvmdk read such disks.
#
# Seen on 2026-11-30 with dissect.hypervisor 3.21, dissect.util 3.24 and qemu-img 7.2.22, on Debian 12:
#   65536 bytes: by bytes the same, by sectors the same
#   69632 bytes: by bytes IndexError, by sectors the same
#
# Needs qemu-img (qemu-utils), and Python with venv and pip. Exits with 0 if it is still so, with 1 if not.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dissect.hypervisor==3.21 dissect.util==3.24
"$here/venv/bin/python" - "$here" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

from dissect.hypervisor.disk.vmdk import VMDK

here = Path(sys.argv[1])


def outcome(read, expected):
    try:
        return "the same" if read() == expected else "other bytes"
    except IndexError:
        return "IndexError"


seen = {}
for size in (64 << 10, 68 << 10):
    raw, vmdk = here / f"{size}.raw", here / f"{size}.vmdk"
    data = bytes(range(1, 251)) * (size // 250 + 1)
    raw.write_bytes(data[:size])
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk], check=True
    )
    disk = VMDK(vmdk)
    by_bytes = outcome(disk.read, data[:size])
    by_sectors = outcome(lambda: disk.read_sectors(0, disk.sector_count), data[:size])
    print(f"{size} bytes: by bytes {by_bytes}, by sectors {by_sectors}")
    seen[size] = by_bytes, by_sectors
sys.exit(seen != {64 << 10: ("the same", "the same"), 68 << 10: ("IndexError", "the same")})
PYTHON

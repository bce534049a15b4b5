"""What every QEMU of ours is started with, whatever it runs: no device, network, display or file of its own accord."""

from __future__ import annotations

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def closed(vga: str) -> list[str]:
    """Its first arguments. vga: "none", or which one a guest draws on."""
    parts = (
        ("-nodefaults",),
        ("-no-user-config",),
        ("-sandbox", _SANDBOX),
        ("-nic", "none"),
        ("-display", "none"),
        ("-vga", vga),
    )
    return [word for part in parts for word in part]

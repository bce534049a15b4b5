"""Machines whose disks the readiness check is held to: layouts of many systems, each sound and with one flaw."""

"""Drills on this host, in QEMU."""

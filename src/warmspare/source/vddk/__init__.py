"""Disks through VMware's VDDK, which lives in a process of its own."""

"""Blocks of a disk at a restore point, out of its chain: for the receiver and for recovery, never for audits."""

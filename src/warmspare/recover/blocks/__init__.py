"""Blocks of a disk at a restore point, out of the chain or a replica, each proved by its hash."""

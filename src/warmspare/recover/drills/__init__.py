"""Proof that a VM comes up, in QEMU or in EC2."""

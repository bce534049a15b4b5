"""Staged restore points as running instances."""

"""Restore points as EBS snapshots."""

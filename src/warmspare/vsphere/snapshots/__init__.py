"""Snapshots of ours: taken, known again, removed."""

"""An audit of a source: disks read afresh, held against the newest restore point."""

"""The way home: disks out of AWS."""

"""Two restore points of a VM held against each other: what differs of their disks; changes nothing."""

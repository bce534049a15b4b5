"""A vCenter and its VMs: simulated disks, change tracking, moments, and a client of it in this process."""

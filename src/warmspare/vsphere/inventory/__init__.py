"""What a vCenter has: VMs, their devices and snapshots as plain values; which are meant, which can be protected."""

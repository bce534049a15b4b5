"""Whether a VM's disks will start in EC2, by looking."""

"""What a guest's own files name, found among a VM's disks; and what wants such a name before the start goes on."""

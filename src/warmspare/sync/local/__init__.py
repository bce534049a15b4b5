"""What this host knows of a VM: its last point, and each page's hash as last committed. A cache."""

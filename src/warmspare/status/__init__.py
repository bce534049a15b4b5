"""How the VMs of a repository stand: what it holds of each, and what this host has kept of them."""

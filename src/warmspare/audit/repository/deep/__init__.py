"""Every block of every restore point, read from the packs and hashed once."""

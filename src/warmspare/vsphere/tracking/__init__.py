"""Change tracking: switched on, asked, and believed only as far as nothing speaks against it."""

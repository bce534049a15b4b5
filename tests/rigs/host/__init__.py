"""The machine that a command runs on: full, read-only and failing file systems, a wrong clock, another user."""

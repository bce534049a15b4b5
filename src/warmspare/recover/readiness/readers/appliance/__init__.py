"""The second reader: Linux's own drivers in a throw-away machine, asked where GRUB can't read."""

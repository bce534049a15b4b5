"""GRUB 2: its script, its menu and its default, as far as these say what is started without anybody at the keys."""

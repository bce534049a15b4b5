"""The language of GRUB's configuration."""

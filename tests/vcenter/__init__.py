"""Syncs of a simulated vCenter; its Go sources are here too."""

"""Faults of networks, stores, libraries and hosts, and kills at each moment."""

"""Passes over a machine: how long a snapshot may live, and what one pass leaves to the next."""

"""Restore points from one repository to another."""

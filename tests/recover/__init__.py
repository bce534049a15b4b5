"""Staging into EBS."""

"""Drills in EC2, where what starts reaches nothing."""

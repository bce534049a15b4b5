"""The commands that audit."""

"""The configuration file: its text, its values, its secrets. Refuses to open, connect to or decide anything."""

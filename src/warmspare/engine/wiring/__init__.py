"""From options and files to what an engine takes."""

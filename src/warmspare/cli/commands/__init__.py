"""The commands: a file each, which parses, wires and calls."""

"""What `examples/` holds: read by the programs that would take it, and run against a fake site."""

"""A warm process that runs requests for others over a Unix socket."""

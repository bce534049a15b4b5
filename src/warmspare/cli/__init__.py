"""The command line: one file a command. Parses, wires, maps errors to exit codes, and nothing else."""

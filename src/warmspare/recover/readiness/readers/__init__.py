"""Readers of file systems that a guest wrote: what each takes, and in what words it says that it does not."""

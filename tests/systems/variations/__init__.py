"""The same small system with one thing another: its archives, mounts, tables, words, and what stands around it."""

"""Ends of a process at every moment: victims that end themselves, signals, and campaigns of both."""

SPRUNG = "the trap has sprung"  # what a victim says on stderr before a call of it fails

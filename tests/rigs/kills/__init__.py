"""Ends of a process at every moment: victims that end themselves, signals, and campaigns of both."""

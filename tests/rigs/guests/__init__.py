"""What is on the disks of guests that no program of ours would make: hostile, old and odd."""

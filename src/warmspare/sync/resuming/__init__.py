"""What runs that never published have left: used again, finished, or removed."""

"""What a run tells the world while it works: events, progress."""

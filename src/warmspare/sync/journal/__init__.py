"""What a run writes down as it goes, for the case that it dies."""

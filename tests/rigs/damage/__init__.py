"""What may be wrong with a replica or a repository, and hands that make it so."""

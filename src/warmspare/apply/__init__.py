"""The receiver: from restore points in a repository to an exact replica."""

"""What lies beside the chains of a repository, and is no part of any."""

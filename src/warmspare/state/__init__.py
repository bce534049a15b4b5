"""Local files that a run leaves for the next: small records, locks, the hash table. A cache, never the truth."""

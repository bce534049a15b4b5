"""The stages of a disk's bytes: filtered, gathered to frames, compressed, packed, sent."""

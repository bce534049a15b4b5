"""The demonstration: the whole way of a real disk, step by step."""

"""The nouns that everything here is made of, as plain values; does no I/O.

docs/architecture.md explains the terms.
"""

"""Stores around a store: each hands everything on to the one it wraps, and does one thing besides."""

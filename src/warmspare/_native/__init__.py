"""Compiled kernels, built from ext/ (see setup.py)."""

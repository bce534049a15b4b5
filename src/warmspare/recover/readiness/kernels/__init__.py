"""Kernels, what they are started with, and the drivers that they bring."""

"""Bytes on the store: frames, packs, manifests, restore points, hash tables. Does no I/O. See docs/format.md."""

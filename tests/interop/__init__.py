"""The stand-in for VDDK, and VMDKs, beside what others make of them."""

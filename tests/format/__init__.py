"""Golden bytes, and decoders of bytes that nobody wrote."""

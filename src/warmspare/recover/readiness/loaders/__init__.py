"""Boot loaders: what each starts by itself, derived from its own files as it derives that; judges nothing."""

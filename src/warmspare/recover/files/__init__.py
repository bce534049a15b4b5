"""Files of a guest, listed and restored without mounting: all that reads them is confined."""

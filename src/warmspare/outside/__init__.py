"""What others wrote and named: text, files and JSON, met so that they can't hurt. Owns no meaning of it."""

"""Objects as files below a directory: made aside, published by link(2) once they are durable."""

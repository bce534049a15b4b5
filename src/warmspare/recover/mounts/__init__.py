"""A restore point or a replica as read-only files in a folder of the user's, until it is ended."""

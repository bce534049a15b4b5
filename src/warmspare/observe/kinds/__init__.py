"""All events that there are, a module a subject; a run reads the modules of those that it can tell."""

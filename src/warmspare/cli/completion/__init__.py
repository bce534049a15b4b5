"""What a shell offers for a line that is being typed; the scripts that ask are below share/."""

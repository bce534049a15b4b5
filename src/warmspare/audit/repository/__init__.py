"""An audit of a repository: all that its restore points name, and what none names; below it, every block of them."""

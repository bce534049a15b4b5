"""Many runs in one process: what becomes of each, what they take together, and what they leave."""

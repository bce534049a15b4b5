"""Clients of AWS: how they are made, sign, stay with their host, and wait for the next who asks the same."""

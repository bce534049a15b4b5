"""Requests to AWS, their errors and their pace."""

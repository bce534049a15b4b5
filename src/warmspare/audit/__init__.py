"""Audits: what is stored and what is replicated held against what the restore points state; repairs named apart."""

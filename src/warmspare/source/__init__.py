"""Where blocks come from. `ports.py` is the contract; `raw.py` reads files and devices."""

"""Where blocks come from. `base.py` is the contract; `raw.py` reads files and devices."""

"""From packs to a visible restore point: through a spool or at once, sealed, published."""

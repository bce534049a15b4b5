"""What tests stand on, a room a kind. What one room of tests alone uses lies beside them, and not here."""

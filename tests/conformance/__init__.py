"""What each store must do."""

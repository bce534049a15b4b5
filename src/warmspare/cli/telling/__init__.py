"""What is shown: events as sentences, lines and bars; how an audit and a sync end."""

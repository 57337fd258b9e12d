"""What the endpoints answer with."""

"""The threads of a gateway."""

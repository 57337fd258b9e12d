"""Files: where they are kept, what they are, and what is made of them."""

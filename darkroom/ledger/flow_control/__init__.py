"""How many runs a deployment of the user's may have at once, how soon, and which come first."""

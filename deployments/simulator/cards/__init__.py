"""What the models are, as data: what they accept and give back (fal's OpenAPI 3.0), their category, unit and price."""

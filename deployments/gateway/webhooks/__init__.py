"""What a provider's webhook means, a file for each provider."""

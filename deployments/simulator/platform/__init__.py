"""api.fal.ai, the platform: its catalogue, its prices and bills, the list of requests, files and their rights."""

"""What several flows have in common: parts of their forms, and parts of their pipelines."""

"""What runs: one Prefect flow per file, each reading top to bottom like the pipeline it is."""

"""The pipelines of this project, a file each."""

"""What Prefect's UI shows of a run: its tasks' notes, tables and pictures."""

"""How fast Darkroom is, and what it costs: `make bench`, or `PYTHONPATH=tests python -m benchmarks`.

The contestants (`contestants.py`, `floor.py`) are given the same workloads (`workloads.py`) by the same driver
(`driver.py`), with the same simulated provider (`provider.py`) on the same machine in the same run. `meters.py` reads
what they use, `figures.py` makes figures of it, `targets.py` holds them against what was promised, `report.py` prints.
"""

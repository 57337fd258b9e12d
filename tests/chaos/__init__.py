"""What Darkroom survives: `make chaos`, or `pytest tests/chaos --jobs N --seed N`.

A scenario (`scenario.py`) says what is ordered, what the provider does wrong and what dies when; all of it follows from
the seed. `storm.py` lets it happen to a whole stack (`machine.py`) and to a provider that is no part of it; customers
(`customers.py`) order as real ones do. What is found afterwards (`aftermath.py`) is held against the promises, each a
test of its own (`test_promises.py`). `figures.py` prints what happened.
"""

"""The runner, and the vocabulary job functions are written in.

A job function is plain Python that is called from its top whenever something it waits for has happened; what it already
has, it gets from the ledger. What users import of it stands in `darkroom` itself.
"""

"""The HTTP gateway: takes orders, shows their outcome, and receives the providers' webhooks.

The only part of Darkroom that is public. It keeps no state of its own, so any number of it can run; with the flows it
meets in the ledger and in Prefect alone.
"""

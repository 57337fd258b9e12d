"""What each kind of job is asked for with: the body of an order by the API, and the form of its flow in Prefect's UI.

Beside the flows rather than in them, as the gateway takes orders without importing Prefect, which takes a second.
"""

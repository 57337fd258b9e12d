"""Words of our own in Prefect's states, as its UI shows them and as we know them again."""

from __future__ import annotations

RECOVERING = "Recovering"  # the name of the state in which a run that lost its process is put back into its queue
REFUSED = "The input is refused: "  # how the message begins of a run that failed for it: it would again

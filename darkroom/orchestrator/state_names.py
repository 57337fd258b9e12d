"""Names of our own for Prefect's states, as its UI shows them and as we know them again."""

from __future__ import annotations

RECOVERING = "Recovering"  # the name of the state in which a run that lost its process is put back into its queue
REFUSED = "Refused"  # … of the failure of a run whose input is refused: it would be again

"""What pipelines are ordered with: their forms in Prefect's UI, and their bodies over HTTP.

Beside the flows rather than in them, as the gateway takes orders without importing Prefect, which takes a second.
`NAMED` are those that have their own address.
"""

from collections.abc import Sequence

from darkroom.flows.orders.debate import Debate
from darkroom.flows.orders.edit import Edit
from darkroom.flows.orders.generation import Generation
from darkroom.flows.orders.imports import Import
from darkroom.flows.orders.picture import Picture
from darkroom.flows.orders.training import Training
from darkroom.order import Order

NAMED: Sequence[type[Order]] = (Picture, Generation, Edit, Debate, Import, Training)

"""The worker type `warm`: flow runs that start in a blink, each still its own process.

`prefect worker start --pool darkroom --type warm`. Prefect finds it by the entry point group `prefect.collections`.
"""

from darkroom.deployments.worker.warm import WarmWorker

__all__ = ["WarmWorker"]

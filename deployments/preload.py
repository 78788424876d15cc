"""What a hospital's warm process loads before it forks, so that a round loads nothing."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Final

from deployments.worker import ALLOWED_FLOWS

_MODULES: Final = (
    "opacus",
    "torch",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.logging.handlers",
    *(target.split(":")[0] for target in ALLOWED_FLOWS.values()),
)


def preload() -> None:
    """Imports what the allowed flows need; an import that fails fails here, not in a round."""
    for module in _MODULES:
        import_module(module)
    # A child writes to the worker's own log.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)

"""The score from which a record is called positive.

operating_point(spec)  # 0.5
"""

from __future__ import annotations

from typing import Final

from fl.spec import ModelSpec

THRESHOLD: Final = 0.5


def operating_point(spec: ModelSpec) -> float:
    """Returns the least score that is called positive, from 0 to 1."""
    return THRESHOLD

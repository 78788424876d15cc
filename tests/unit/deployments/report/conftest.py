from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from fl.local_report import LocalReport, OwnGroup, figures_of

TRAINING = UUID(int=7)


@pytest.fixture
def kept() -> Callable[..., LocalReport]:
    """Makes reports of made-up records; any field can be given."""

    def make(*, records: int = 60, **changes: Any) -> LocalReport:
        generator = np.random.default_rng(3)
        labels = np.tile([0.0, 1.0], records // 2)
        scores = 1 / (1 + np.exp(-generator.normal(2 * labels - 1, 1)))
        groups = (
            OwnGroup(subgroup="sex", group="f", figures=figures_of(scores[:-4], labels[:-4])),
            OwnGroup(subgroup="sex", group="m", figures=figures_of(scores[-4:], labels[-4:])),
        )
        values: dict[str, Any] = {
            "training_id": TRAINING,
            "model": "breast-cancer",
            "purpose": "research",
            "weights": "a" * 64,
            "evaluated_at": datetime(2026, 1, 2, tzinfo=UTC),
            "label": "malignant",
            "classes": ("no", "yes"),
            "whole": figures_of(scores, labels),
            "groups": groups,
        }
        return LocalReport(**(values | changes))

    return make

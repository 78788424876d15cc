"""The demo's hospitals have a budget that no demo uses up, unless the environment sets one."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.settings import StackSettings
from deployments.stack.hospitals import with_demo_budget


def test_a_demo_can_run_again_and_again(settings: StackSettings, tmp_path: Path) -> None:
    place = settings.site("hospital-1", tmp_path)
    assert (place.most_epsilon, place.most_total_epsilon) == (10.0, 20.0)
    demo = with_demo_budget(place)
    assert (demo.most_epsilon, demo.most_total_epsilon) == (1000.0, 1000.0)
    assert demo.environment()["FEDMED_MOST_TOTAL_EPSILON"] == "1000.0"


def test_what_the_environment_sets_stays(
    settings: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMED_MOST_EPSILON", "3")
    demo = with_demo_budget(settings.site("hospital-1", tmp_path))
    assert (demo.most_epsilon, demo.most_total_epsilon) == (3.0, 1000.0)

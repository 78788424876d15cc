"""The privacy defaults from the environment."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from privacy.plan import PrivacyRequest
from privacy.settings import PrivacySettings

NAMES = tuple(f"FEDMED_{name.upper()}" for name in PrivacySettings.model_fields)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_without_an_environment_it_is_the_default_request() -> None:
    assert PrivacySettings().request() == PrivacyRequest()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMED_EPSILON", "3")
    monkeypatch.setenv("FEDMED_DELTA", "1e-6")
    monkeypatch.setenv("FEDMED_CLIP_NORM", "0.25")
    monkeypatch.setenv("FEDMED_SAMPLING_RATE", "0.1")
    monkeypatch.setenv("FEDMED_EXPECTED_BATCH_SIZE", "16")
    monkeypatch.setenv("FEDMED_NOISE_MULTIPLIER", "")
    assert PrivacySettings().request() == PrivacyRequest(
        epsilon=3, delta=1e-6, clip_norm=0.25, sampling_rate=0.1, expected_batch_size=16
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EPSILON", "0"),
        ("EPSILON", "1000"),
        ("DELTA", "0.5"),
        ("CLIP_NORM", "nan"),
        ("NOISE_MULTIPLIER", "0.01"),
        ("SAMPLING_RATE", "1.5"),
        ("EXPECTED_BATCH_SIZE", "many"),
    ],
)
def test_a_value_out_of_bounds_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FEDMED_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        PrivacySettings()


def test_epsilon_and_noise_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMED_EPSILON", "3")
    monkeypatch.setenv("FEDMED_NOISE_MULTIPLIER", "2")
    with pytest.raises(ValidationError, match="not both"):
        PrivacySettings().request()


@pytest.mark.parametrize(
    ("asked", "defaults", "expected"),
    [
        ({}, {"epsilon": 3}, {"epsilon": 3}),
        ({"delta": 1e-6}, {"epsilon": 3}, {"epsilon": 3, "delta": 1e-6}),
        ({"epsilon": 2}, {"noise_multiplier": 9}, {"epsilon": 2}),
        ({"noise_multiplier": 9}, {"epsilon": 2}, {"noise_multiplier": 9}),
        (
            {"noise_shares": 3, "steps_per_round": 1},
            {"sampling_rate": 1},
            {"noise_shares": 3, "steps_per_round": 1, "sampling_rate": 1},
        ),
    ],
)
def test_what_is_asked_for_wins_over_the_environment(
    asked: dict[str, float], defaults: dict[str, float], expected: dict[str, float]
) -> None:
    settings = PrivacySettings.model_validate(defaults)
    assert settings.completed(asked) == PrivacyRequest.model_validate(expected)


def test_what_does_not_go_with_the_environment_is_refused() -> None:
    settings = PrivacySettings(sampling_rate=0.2)
    with pytest.raises(ValidationError, match="noise_shares 3"):
        settings.completed({"noise_shares": 3})

"""The privacy defaults of a training, from the environment.

FEDMED_EPSILON=4 FEDMED_CLIP_NORM=0.5 fedmed train --model breast-cancer

request = PrivacySettings().request()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic_settings import BaseSettings, SettingsConfigDict

from privacy.plan import (
    BatchSize,
    ClipNorm,
    Delta,
    Epsilon,
    NoiseMultiplier,
    PrivacyRequest,
    SamplingRate,
    Steps,
)

_DEFAULT = PrivacyRequest()
_EXCLUSIVE: Final = frozenset({"epsilon", "noise_multiplier"})


class PrivacySettings(BaseSettings):
    """What ``PrivacyRequest`` a training gets when nobody says otherwise.

    Each attribute reads ``FEDMED_<NAME>``; a value out of its bounds is a validation error that
    names it. ``epsilon`` and ``noise_multiplier`` exclude each other, as in the request.
    """

    # An empty line in a .env file means the default, not an unreadable number.
    model_config = SettingsConfigDict(
        env_prefix="FEDMED_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    epsilon: Epsilon | None = _DEFAULT.epsilon
    noise_multiplier: NoiseMultiplier | None = _DEFAULT.noise_multiplier
    delta: Delta = _DEFAULT.delta
    clip_norm: ClipNorm | None = _DEFAULT.clip_norm
    sampling_rate: SamplingRate | None = _DEFAULT.sampling_rate
    expected_batch_size: BatchSize = _DEFAULT.expected_batch_size
    steps_per_round: Steps | None = _DEFAULT.steps_per_round

    def request(self) -> PrivacyRequest:
        """Returns the request for a training.

        Raises:
            pydantic.ValidationError: both epsilon and noise_multiplier are set.
        """
        return PrivacyRequest(**self.model_dump())

    def completed(self, asked: Mapping[str, Any]) -> PrivacyRequest:
        """Returns what was asked for, completed by these defaults.

        Epsilon and noise exclude each other: whichever is asked for replaces both defaults.

        Args:
            asked: values of a ``PrivacyRequest`` by name; the others are left to the defaults.

        Raises:
            pydantic.ValidationError: the whole is no valid request.
        """
        default = self.request().model_dump(exclude_none=True)
        if asked.keys() & _EXCLUSIVE:
            default = {name: value for name, value in default.items() if name not in _EXCLUSIVE}
        return PrivacyRequest.model_validate({**default, **asked})

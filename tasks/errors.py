"""Why a round or a training ended without its result.

::

    RoundFailed            the round ends as failed, with this reason
    ├── HospitalRefused    a hospital refused; names it and gives its reason
    ├── HospitalSilent     a hospital did not answer before the deadline; names it
    └── SumRefused         what a hospital sent does not fit the secure sum
"""

from __future__ import annotations


class RoundFailed(Exception):
    """The round ends as failed; the text is the reason people read."""


class HospitalRefused(RoundFailed):
    """A hospital refused."""

    def __init__(self, hospital_id: str, code: str, reason: str) -> None:
        super().__init__(f"{hospital_id} refused: {code}: {reason}")
        self.hospital_id = hospital_id


class HospitalSilent(RoundFailed):
    """Hospitals did not answer before the round's deadline."""

    def __init__(self, hospital_ids: tuple[str, ...], awaited: str, deadline_s: float) -> None:
        names = ", ".join(hospital_ids)
        super().__init__(f"{names} sent no {awaited} within {deadline_s:g} s")
        self.hospital_ids = hospital_ids


class SumRefused(RoundFailed):
    """What a hospital sent does not fit the secure sum."""

"""What the hospital has set for its ledger: the limits, and the name of its patient cohort."""

from __future__ import annotations

from privacy.ledger import Limits
from tasks.hospital.site import SiteSettings


def limits_of(settings: SiteSettings) -> Limits:
    """Returns the limits of the hospital, as they are now."""
    return Limits(
        epsilon_per_training=settings.most_epsilon,
        epsilon_total=settings.most_total_epsilon,
        delta=settings.ledger_delta,
    )


def cohort_of(settings: SiteSettings) -> str:
    """Returns the name under which the patients of the hospital's table have their account."""
    return settings.patient_cohort

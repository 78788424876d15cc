"""What a hospital's training code cannot do, whoever wrote it: the kernel's own limits around it.

The warm process confines itself once, before it forks, and every child is born confined::

    places = places_of(settings)
    report = confinement_report(places)          # tried in a throw-away process
    enforce(report, places)                      # in the warm process: no way back

Each layer stands alone. What the system does not offer is named in the report, with the reason.
"""

from deployments.confine.environment import CLEAN, allowed_environment, keep_allowed
from deployments.confine.layers import (
    Confinement,
    ConfinementFailed,
    Layer,
    confinement_report,
    enforce,
    require,
)
from deployments.confine.limits import ChildLimits, limit_child
from deployments.confine.places import Places, places_of

__all__ = [
    "CLEAN",
    "ChildLimits",
    "Confinement",
    "ConfinementFailed",
    "Layer",
    "Places",
    "allowed_environment",
    "confinement_report",
    "enforce",
    "keep_allowed",
    "limit_child",
    "places_of",
    "require",
]

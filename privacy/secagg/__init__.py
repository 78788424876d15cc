"""Secure aggregation: sums of vectors of which nobody sees a single one.

    identity = Identity.generate()
    hospital = Participant(1, parameters, identity, roster)
    coordinator = SecureSum(parameters, roster)

``participant`` gives the algorithm, ``messages`` what passes between the two.
"""

from privacy.secagg.keys import Identity, PublicIdentity
from privacy.secagg.messages import CohortView, Enrolment, Reveal, SurvivorView, Upload
from privacy.secagg.parameters import SumParameters, least_quorum
from privacy.secagg.participant import Participant
from privacy.secagg.quantiser import SumResult
from privacy.secagg.secure_sum import SecureSum

__all__ = [
    "CohortView",
    "Enrolment",
    "Identity",
    "Participant",
    "PublicIdentity",
    "Reveal",
    "SecureSum",
    "SumParameters",
    "SumResult",
    "SurvivorView",
    "Upload",
    "least_quorum",
]

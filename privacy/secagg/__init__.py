"""Secure aggregation: sums of vectors of which nobody sees a single one.

    identity = Identity.generate()
    hospital = Participant(1, parameters, identity, roster, journal=journal)
    coordinator = SecureSum(parameters, roster)

``participant`` gives the algorithm, ``messages`` what passes between the two.
"""

from privacy.secagg.journal import Journal, MemoryJournal
from privacy.secagg.keys import Identity, PublicIdentity
from privacy.secagg.messages import (
    Certificate,
    CohortView,
    Echo,
    Enrolment,
    Reveal,
    SurvivorView,
    Upload,
)
from privacy.secagg.parameters import SumParameters, least_quorum
from privacy.secagg.participant import Participant
from privacy.secagg.quantiser import SumResult
from privacy.secagg.recovery import ShareFault
from privacy.secagg.secure_sum import SecureSum

__all__ = [
    "Certificate",
    "CohortView",
    "Echo",
    "Enrolment",
    "Identity",
    "Journal",
    "MemoryJournal",
    "Participant",
    "PublicIdentity",
    "Reveal",
    "SecureSum",
    "ShareFault",
    "SumParameters",
    "SumResult",
    "SurvivorView",
    "Upload",
    "least_quorum",
]

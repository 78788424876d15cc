"""What can go wrong in ``privacy``, one class per cause.

::

    PrivacyError
    ├── PlanError             a privacy plan that cannot be met, or a value out of its bounds
    ├── UnknownMechanism      an accountant was asked to price what it does not know
    ├── BudgetExceeded        a training or a cohort would get beyond the hospital's limit
    ├── ChargeConflict        the attempt of a round was charged before, with something else
    └── ProtocolError         secure aggregation: a peer or the coordinator broke a rule
        ├── ParametersRefused     parameters this party would not have chosen
        ├── CohortRefused         too few, unknown or missing parties in a cohort or survivor set
        ├── CertificateRefused    a survivor set that no quorum has echoed
        ├── SignatureRefused      a signature that does not verify
        ├── ShareRefused          shares that do not open, or do not fit what their dealer fixed
        ├── RoundReused           a round or an answer that was given before
        └── InputRefused          a vector, weight or count that the sum cannot hold
"""

from __future__ import annotations


class PrivacyError(Exception):
    """Base of all errors of this package."""


class PlanError(PrivacyError, ValueError):
    """A privacy plan that cannot be met, or a value out of its bounds."""


class UnknownMechanism(PrivacyError, TypeError):
    """An accountant was asked to price a mechanism that it does not know."""


class BudgetExceeded(PrivacyError):
    """A training or a cohort would get beyond the hospital's limit; the text has the figures."""


class ChargeConflict(PrivacyError):
    """The attempt of a round was charged before, with something else."""


class ProtocolError(PrivacyError):
    """A peer or the coordinator broke a rule: answer nothing, keep the round closed."""


class ParametersRefused(ProtocolError):
    """Parameters of a secure sum that this party would not have chosen."""


class CohortRefused(ProtocolError):
    """Too few, unknown or missing parties in a cohort or survivor set."""


class CertificateRefused(ProtocolError):
    """A survivor set that no quorum of its members has echoed."""


class SignatureRefused(ProtocolError):
    """A signature that does not verify under the pinned key of its party."""


class ShareRefused(ProtocolError):
    """Shares that do not open, or do not fit what their dealer has committed to."""


class RoundReused(ProtocolError):
    """A round or an answer that this party has given before."""


class InputRefused(ProtocolError):
    """A vector, weight or count that the secure sum cannot hold."""

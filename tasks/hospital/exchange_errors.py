"""What the coordinator's API may answer to a hospital, one class per cause.

::

    ExchangeError
    ├── ExchangeRefused       a request was refused for good; the text gives its problem
    │   ├── CredentialRefused     no token: the credential is not accepted, or not any more
    │   └── ExchangeUntrusted     what answers at the address, or the address, is not to be trusted
    ├── RoundClosed           the coordinator has closed the round; the text gives its reason
    └── ExchangeTimeout       what a hospital waited for did not come in time
"""

from __future__ import annotations


class ExchangeError(Exception):
    """Base of what the exchange may answer."""


class ExchangeRefused(ExchangeError):
    """The exchange refused a request for good; the text gives its problem."""


class CredentialRefused(ExchangeRefused):
    """No token: the credential is not accepted, or the hospital is suspended or has left."""


class ExchangeUntrusted(ExchangeRefused):
    """What answers at the address, or the address itself, is not to be trusted."""


class RoundClosed(ExchangeError):
    """The coordinator has closed the round; the text gives its reason."""


class ExchangeTimeout(ExchangeError):
    """What a hospital waited for did not come in time."""

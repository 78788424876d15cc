"""A hospital's refusal: a code and a sentence that may leave the hospital.

What a refusal says reaches the coordinator and its database, so it names rules and columns
and never quotes data. Whatever else goes wrong inside a hospital leaves it as its class name alone;
the hospital's own log has the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from db.site_store import SiteStore
from fl.errors import ModelError, WireError
from privacy.errors import PlanError, ProtocolError
from tasks.hospital.exchange_errors import ExchangeError

_MAX_REASON: Final = 500


class Refusal(Exception):
    """The hospital takes no further part in a round."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason[:_MAX_REASON]

    def encode(self) -> bytes:
        """Returns the refusal as the exchange takes it."""
        return json.dumps({"code": self.code, "reason": self.reason}).encode()


@contextmanager
def contained(store: SiteStore) -> Iterator[None]:
    """Turns whatever goes wrong into a Refusal, and keeps the details in the hospital's own log.

    Raises:
        Refusal: with no cause or context attached, so that no traceback carries data away.
        ExchangeError: unchanged; it is about the coordinator, not about data.
    """
    try:
        yield
    except (Refusal, ExchangeError):
        raise
    except ProtocolError as error:
        refusal = Refusal("protocol", f"{type(error).__name__}: {error}")
    except (ModelError, PlanError, WireError) as error:
        refusal = Refusal("model", f"{type(error).__name__}: {error}")
    except Exception as error:
        store.log("internal-error", {"type": type(error).__name__, "detail": repr(error)})
        if _is_out_of_memory(error):
            refusal = Refusal("crashed", "the run was out of memory (FEDMED_CHILD_MEMORY_MB)")
        else:
            refusal = Refusal(
                "internal-error", f"{type(error).__name__}; see the hospital's own log"
            )
    else:
        return
    raise refusal from None


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch has no class of its own for memory that the processor does not get.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )

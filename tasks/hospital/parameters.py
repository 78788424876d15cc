"""A run's parameters, checked at the hospital before anything is forked for them.

    invitation = check_parameters(flow_run.parameters)

They come from a server that the hospital does not trust: exactly one invitation, strictly typed, no
unknown key at any depth, every text, list and number bounded, and all of it within a mebibyte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from fl.invitation import RoundInvitation
from tasks.hospital.refusal import Refusal

MOST_BYTES: Final = 1 << 20
"""Most bytes of a run's parameters, as JSON."""

_PARAMETER: Final = "invitation"
_SHOWN_RULES: Final = 3


def check_parameters(parameters: Mapping[str, Any]) -> RoundInvitation:
    """Returns the invitation that a run's parameters are.

    Raises:
        Refusal: ``parameters``, naming the fields and rules.
    """
    if set(parameters) != {_PARAMETER}:
        raise Refusal(
            "parameters",
            f"a run has the one parameter {_PARAMETER!r}, not {len(parameters)} others",
        )
    try:
        # Back to JSON: what pydantic takes in strict mode depends on where a value comes from.
        text = json.dumps(parameters[_PARAMETER], allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal("parameters", f"not JSON: {type(error).__name__}") from None
    if len(text) > MOST_BYTES:
        raise Refusal("parameters", f"{len(text)} bytes are more than {MOST_BYTES}")
    try:
        invitation = RoundInvitation.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise Refusal("parameters", _rules(error)) from None
    # A value may have another one that stands for it, such as an operating point that names none.
    # The coordinator sends what was meant; what else was sent, nobody here has read.
    if json.loads(invitation.model_dump_json(exclude_unset=True)) != json.loads(text):
        raise Refusal("parameters", "the invitation reads otherwise than it is written")
    return invitation


def round_named(parameters: Mapping[str, Any]) -> UUID | None:
    """Returns the round that parameters name, whatever else is wrong with them."""
    invitation = parameters.get(_PARAMETER)
    named = invitation.get("round_id") if isinstance(invitation, dict) else None
    if not isinstance(named, str):
        return None
    try:
        return UUID(named)
    except ValueError:
        return None


def _rules(error: ValidationError) -> str:
    """The first broken rules; their fields are cut short, since a server chose them."""
    broken = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        f"{'.'.join(str(part)[:40] for part in one['loc'])[:120]}: {one['msg'][:120]}"
        for one in broken[:_SHOWN_RULES]
    ]
    left = len(broken) - len(shown)
    return "; ".join([*shown, *([f"and {left} more"] if left else [])])

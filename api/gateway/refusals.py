"""What the gateway says when it does not pass a call on.

An id of another hospital and an id that does not exist get the same answer.
"""

from __future__ import annotations

from api.errors import FieldError, Problem


def refused(rule: str, detail: str) -> Problem:
    """The call, or something that it asks for, is not allowed."""
    return Problem(
        403,
        "gateway-refused",
        "Not allowed through the gateway",
        detail=detail,
        errors=[FieldError("", rule, detail)],
    )


def not_yours(kind: str) -> Problem:
    """There is no such object of this hospital's, whether or not there is one of another's."""
    return refused("own", f"there is no such {kind} of this hospital's")


def invalid(errors: list[FieldError]) -> Problem:
    """The body has not the shape that the call takes."""
    named = ", ".join(sorted({error.field for error in errors}))
    return Problem(
        422, "invalid-request", "The request is not valid", detail=f"see {named}", errors=errors
    )


def rule_of(problem: Problem) -> str:
    """The rule that a refusal names, for the log."""
    return problem.errors[0].rule if problem.errors else problem.kind

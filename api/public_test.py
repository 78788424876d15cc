"""Holding a public test set to a model's data contract before it is kept.

    hold_to_contract(path, contract)  # raises a Problem that names every broken rule

The file is read in a process of its own, which knows none of the API's secrets and ends with it: it
comes from outside, and reading tables takes libraries that the API does without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Final

from api.errors import FieldError, Problem
from fl.contract import DataContract

_LONGEST_S: Final = 120.0
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR")


def hold_to_contract(path: Path, contract: DataContract) -> None:
    """Reads a file as a hospital would read its own.

    Raises:
        Problem: 422, the broken rules by column and count, or a file that could not be read.
    """
    try:
        child = subprocess.run(  # noqa: S603 (our own module)
            [sys.executable, "-m", "fl.public_test", str(path)],
            input=contract.model_dump_json().encode(),
            capture_output=True,
            timeout=_LONGEST_S,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"reading it took more than {_LONGEST_S:g} s", []) from None
    if child.returncode:
        raise _refused("it cannot be read: give CSV, Parquet or npz", [])
    if broken := json.loads(child.stdout):
        raise _refused(
            "it does not fit the model's data contract",
            [
                FieldError(column or "table", rule, f"{rule} ({count})")
                for column, rule, count in broken
            ],
        )


def _refused(detail: str, errors: list[FieldError]) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "public-test",
        "The public test set cannot be used",
        detail=detail,
        errors=errors,
    )

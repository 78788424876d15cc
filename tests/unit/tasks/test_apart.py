"""A function in a process of its own."""

from __future__ import annotations

import os

import pytest

from tasks.apart import run_apart


def test_it_runs_elsewhere_and_its_result_comes_back() -> None:
    assert run_apart(os.getppid) == os.getpid()


def test_its_error_comes_back() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        run_apart(int, "no number")

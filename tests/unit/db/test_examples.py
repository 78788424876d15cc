from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from db import blobs, chain, notify, settings


@pytest.mark.parametrize("module", [blobs, chain, notify, settings], ids=lambda m: m.__name__)
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)

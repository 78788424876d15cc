"""The document of the data contract says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import fl.data
from fl.contract import DataContract

DOCUMENT = (Path(fl.data.__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")


def test_its_examples_are_contracts() -> None:
    tables, images = (
        DataContract.model_validate(yaml.safe_load(block)["contract"])
        for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    )
    assert tables.features == 1 + 2 + 1 + 4
    assert images.shape == (1, 64, 64)


def test_it_names_the_rules_that_the_module_names() -> None:
    in_module = set(re.findall(r"^``([a-z-]+)``", str(fl.data.__doc__), re.MULTILINE))
    section = DOCUMENT.split("## Rules")[1].split("## ")[0]
    in_document = {
        rule
        for line in section.splitlines()
        if line.startswith("| `")
        for rule in re.findall(r"`([a-z]+-[a-z-]+)`", line.split("|")[1])
    }
    assert in_document == in_module
    package = Path(fl.data.__file__).parent
    files = [*package.glob("sources/*.py"), package / "encoding.py", package / "annotations.py"]
    source = "".join(file.read_text() for file in files)
    assert all(f'"{rule}"' in source for rule in in_module)

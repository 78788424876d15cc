"""A confined child reads its hospital's data, whatever their format, and nothing beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

PROGRAM = """
import fl.data, fl.row_store
from fl.contract import DataContract

fl.row_store.IN_MEMORY_BYTES = 0  # so that rows lie in a temporary file

def entry(request):
    limit_child(ChildLimits(memory_mb=2048, cpu_s=60))
    found = {}
    for name, contract in given["contracts"].items():
        try:
            table = fl.data.load_table(
                root / "data" / name, DataContract.model_validate(contract)
            )
            found[name] = [type(table.features).__name__, float(table.features.sum())]
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    os.write(1, (json.dumps(found) + "\\n").encode())
    return ""

children(entry, [{}], confined=True)
"""
LABEL = {"name": "y"}
TABLE = {"columns": [{"name": "x", "minimum": 0, "maximum": 2}], "label": LABEL}
IMAGES = {"images": {"height": 8, "width": 8}, "label": LABEL}


@pytest.fixture
def files(ground: Any) -> Path:
    """The same rows in each format, and images; one folder names an image of another hospital."""
    data: Path = ground.root / "data"
    frame = pd.DataFrame({"x": [0.0, 2.0, 2.0], "y": [0, 1, 1]})
    frame.to_csv(data / "formats.csv", index=False)
    frame.to_parquet(data / "formats.parquet")
    np.savez(data / "formats.npz", x=frame["x"], y=frame["y"])
    pixels = np.full((8, 8), 3, np.uint8)
    for folder in ("images", "astray"):
        (data / folder / "below").mkdir(parents=True)
        Image.fromarray(pixels).save(data / folder / "below" / "a.png")
        (data / folder / "labels.csv").write_text("file,y\nbelow/a.png,1\n")
    Image.fromarray(pixels).save(ground.root / "elsewhere" / "b.png")
    (data / "astray" / "below" / "a.png").unlink()
    (data / "astray" / "below" / "a.png").symlink_to(ground.root / "elsewhere" / "b.png")
    return data


def test_a_confined_child_reads_every_format(files: Path, run_children: Callable[..., Any]) -> None:
    tables = dict.fromkeys(("formats.csv", "formats.parquet", "formats.npz"), TABLE)
    found = run_children(PROGRAM, contracts={**tables, "images": IMAGES, "astray": IMAGES})
    assert found == {
        **{name: ["memmap", 1.0] for name in tables},
        "images": ["memmap", 192.0],
        "astray": "ContractViolation: file: file-outside-folder (1)",
    }

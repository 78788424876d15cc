"""The demo's data: a public set of breast masses, dealt out to hospitals as one CSV each.

scikit-learn's copy of Breast Cancer Wisconsin (Diagnostic), 569 x 30 (Wolberg, Street, Mangasarian
1995). Each hospital gets a random part with the same share of malignant masses.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml

from fl.spec import ModelSpec

LABEL = "malignant"


def demo_model() -> ModelSpec:
    """Returns the demo's model as ``deployments/models/breast-cancer.yaml`` declares it."""
    text = files("deployments").joinpath("models", "breast-cancer.yaml").read_text()
    return ModelSpec.model_validate(yaml.safe_load(text))


def hospital_ids(count: int) -> tuple[str, ...]:
    """Returns the demo's hospitals, ``hospital-1`` and on."""
    return tuple(f"hospital-{number}" for number in range(1, count + 1))


def deal_out(directory: Path, *, hospitals: int, seed: int) -> dict[str, Path]:
    """Writes one folder with a CSV for each hospital, unless they are there; returns the folders.

    Args:
        directory: where the folders go.
        hospitals: number of hospitals.
        seed: of the random deal, so that a demo can be repeated.
    """
    folders = {hospital_id: directory / hospital_id for hospital_id in hospital_ids(hospitals)}
    missing = [hospital_id for hospital_id in folders if not _table(folders[hospital_id]).exists()]
    if not missing:
        return folders
    # scikit-learn takes a second to import and is needed here alone.
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import StratifiedKFold

    data = load_breast_cancer(as_frame=True)
    table = data.frame.drop(columns="target")
    table[LABEL] = 1 - data.target  # the set codes malignant as 0
    deal = StratifiedKFold(n_splits=hospitals, shuffle=True, random_state=seed)
    for hospital_id, (_, rows) in zip(folders, deal.split(table, table[LABEL]), strict=True):
        folder = folders[hospital_id]
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / "table.csv.new"
        table.iloc[rows].to_csv(temporary, index=False)
        temporary.replace(_table(folder))
    return folders


def _table(folder: Path) -> Path:
    return folder / "table.csv"

"""What a demo's model is worth on the rows that its hospitals hold out, without any noise.

The platform itself only sees noised counts of them. The demo's rows are public, so that a benchmark
may look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HeldOut:
    """AUC, and accuracy at a score of 0.5, over the held-out rows of all hospitals together."""

    auc: float
    accuracy: float


def exact_figures(home: Path) -> HeldOut:
    """Evaluates the model that a demo has registered.

    Args:
        home: the demo's state directory: one training on one deal of the rows.

    Raises:
        ValueError: it holds no model, or several.
    """
    import numpy as np
    import torch
    from safetensors.numpy import load_file
    from sklearn.metrics import accuracy_score, roc_auc_score

    from deployments.demo_data import demo_model
    from fl.architectures import build, load_weights
    from fl.data import load_table
    from fl.serving import WEIGHTS_FILE
    from fl.split import split

    (model,) = (home / "mlflow").rglob(WEIGHTS_FILE)
    spec = demo_model()
    module = build(spec)
    load_weights(module, load_file(model))
    labels, scores = [], []
    for folder in sorted((home / "demo" / "data").glob("*/*")):
        key = (home / "hospitals" / folder.name / "keys" / "split.key").read_bytes()
        held_out = split(load_table(folder, spec.contract), key=key).held_out
        with torch.inference_mode():
            logits = module.eval()(torch.from_numpy(held_out.features)).reshape(-1)
        scores.append(torch.sigmoid(logits).numpy())
        labels.append(held_out.labels)
    truth, score = np.concatenate(labels), np.concatenate(scores)
    return HeldOut(
        auc=float(roc_auc_score(truth, score)), accuracy=float(accuracy_score(truth, score >= 0.5))
    )

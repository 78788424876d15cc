"""The model card: what a model is, for whom it is meant, how good it is, and what it cost.

    text = model_card(spec, facts)   # Markdown

Its headings are those of Mitchell et al. 2019, "Model Cards for Model Reporting", §4, with one more
on privacy. It holds what the coordinator knows: public constants, and figures out of noised sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from fl.contract import CategoryColumn, DataContract, NumberColumn
from fl.spec import ModelSpec, most_colluding
from privacy.plan import PrivacyPlan

_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card says beside the specification.

    Attributes:
        made_on: the day of the closing evaluation.
        training_id: the training that made the weights.
        model_version: version of the specification at the coordinator.
        requested_by: who started the training.
        purpose: what it is for, in one word.
        strategy: how the coordinator made new weights, in words.
        rounds: training rounds behind the weights.
        hospitals: hospitals in the closing evaluation.
        least_cohort: fewest hospitals with which a round could run.
        plan: the privacy plan.
        epsilon: what was spent of it, at its delta.
        threshold: least score called positive.
        figures: of the closing evaluation, by name; ``auc_low`` and ``auc_high`` bound ``auc``.
        records: held-out records counted, with noise.
        positives: how many of them are of the positive class, with noise.
        subgroups: figures by group, such as ``sex: f``.
        public_test: SHA-256 of the public test set; None without one.
        public: figures on it, exact.
        code_hash: of the specification and the code that trained it.
        package_version: of this package.
    """

    made_on: date
    training_id: str
    model_version: int
    requested_by: str
    purpose: str
    strategy: str
    rounds: int
    hospitals: int
    least_cohort: int
    plan: PrivacyPlan
    epsilon: float
    threshold: float
    figures: Mapping[str, float]
    records: int
    positives: int
    subgroups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    public_test: str | None = None
    public: Mapping[str, float] = field(default_factory=dict)
    code_hash: str
    package_version: str


def model_card(spec: ModelSpec, facts: CardFacts) -> str:
    """Returns the card as Markdown."""
    sections = (
        ("Model details", _details(spec, facts)),
        ("Intended use", _use(spec, facts)),
        ("Factors", _factors(spec.contract, facts)),
        ("Metrics", _metrics(facts)),
        ("Evaluation data", _evaluation_data(facts)),
        ("Training data", _training_data(spec.contract, facts)),
        ("Privacy", _privacy(spec.contract, facts)),
        ("Caveats and recommendations", _caveats(facts)),
    )
    parts = [f"# Model card: {spec.name}"]
    parts += [f"## {title}\n\n{text}" for title, text in sections]
    return "\n\n".join(parts) + "\n"


def _details(spec: ModelSpec, facts: CardFacts) -> str:
    rows = {
        "specification": f"{spec.name}, version {facts.model_version}",
        "architecture": f"{spec.architecture.kind}, "
        f"{spec.architecture.parameters(spec.contract.shape)} weights at most",
        "trained": f"{facts.rounds} rounds over {facts.hospitals} hospitals, {facts.strategy}",
        "finished": facts.made_on.isoformat(),
        "training": facts.training_id,
        "requested by": facts.requested_by,
        "software": f"fedmed {facts.package_version}, code {facts.code_hash[:16]}",
    }
    return _table(("", ""), rows.items())


def _use(spec: ModelSpec, facts: CardFacts) -> str:
    label = spec.contract.label
    text = (
        f"Purpose: **{_plain(facts.purpose)}**. It scores how likely a record is "
        f"`{_plain(label.positive)}` rather than `{_plain(label.negative)}` in "
        f"`{_plain(label.name)}`; a score from {facts.threshold:g} is called positive."
    )
    described = f"\n\n{_plain(spec.description)}" if spec.description else ""
    return (
        f"{text}{described}\n\nOut of scope: records that break the data contract, populations "
        "that the hospitals do not have, and decisions about a patient without a physician."
    )


def _factors(contract: DataContract, facts: CardFacts) -> str:
    if not contract.subgroups:
        return "The data contract names no subgroups, so none were compared."
    named = "; ".join(
        f"`{_plain(group.name)}`: {', '.join(_plain(label) for label in group.labels)}"
        for group in contract.subgroups
    )
    if not facts.subgroups:
        return f"Subgroups of the data contract: {named}. No figures by group were measured."
    names = sorted({name for figures in facts.subgroups.values() for name in figures})
    rows = (
        (group, *(_number(figures.get(name)) for name in names))
        for group, figures in facts.subgroups.items()
    )
    return f"{named}.\n\n{_table(('group', *names), rows)}"


def _metrics(facts: CardFacts) -> str:
    columns = ["all hospitals' held-out records"]
    sources = [_with_intervals(facts.figures)]
    if facts.public:
        columns.append("public test set")
        sources.append(_with_intervals(facts.public))
    names = list(dict.fromkeys(name for figures in sources for name in figures))
    rows = ((name, *(figures.get(name, "") for figures in sources)) for name in names)
    return (
        f"{_table(('figure', *columns), rows)}\n\n"
        "Accuracy, sensitivity and specificity are at the operating point above. In brackets: the "
        "interval, at 95 %. Figures on held-out records come out of counts that carry noise."
    )


def _evaluation_data(facts: CardFacts) -> str:
    text = (
        f"Records that each hospital holds out for ever, one a patient: about {facts.records} "
        f"together, {facts.positives} of them positive. These counts carry noise and are of the "
        "sum over the hospitals; nobody has seen one hospital's."
    )
    if facts.public_test is None:
        return text
    return (
        f"{text}\n\nA public test set that the coordinator holds, SHA-256 "
        f"`{facts.public_test}`; its figures are exact."
    )


def _training_data(contract: DataContract, facts: CardFacts) -> str:
    text = (
        f"Rows of at least {facts.least_cohort} hospitals a round, as the data contract says. They "
        "stay where they are; how many there were is not known here."
    )
    if contract.images is not None:
        images = contract.images
        return (
            f"{text}\n\nImages of {images.height} × {images.width} pixels, {images.channels} "
            f"channel(s), values {images.minimum:g} to {images.maximum:g}."
        )
    rows = (_column(column) for column in contract.columns)
    return f"{text}\n\n{_table(('column', 'kind', 'values', 'an empty cell'), rows)}"


def _column(column: NumberColumn | CategoryColumn) -> tuple[str, str, str, str]:
    if isinstance(column, CategoryColumn):
        return column.name, "category", ", ".join(column.categories), column.missing
    unit = f" {column.unit}" if column.unit else ""
    kind = "whole number" if column.whole else "number"
    return column.name, kind, f"{column.minimum:g} to {column.maximum:g}{unit}", column.missing


def _privacy(contract: DataContract, facts: CardFacts) -> str:
    plan = facts.plan
    unit = "a record" if contract.patient is None else "a patient, with all records"
    if plan.noise_shares > 1:
        noise = (
            f"shared under the secure sum by {plan.noise_shares} honest hospitals: it protects "
            f"against the coordinator together with {most_colluding(facts.hospitals)} of "
            f"{facts.hospitals} hospitals, as long as secure aggregation holds"
        )
    else:
        noise = (
            "local, the whole of it on each hospital's own update: it protects against the "
            "coordinator and all other hospitals together"
        )
    rows = {
        "epsilon": f"{facts.epsilon:.4g} at delta {plan.delta:g}",
        "protected unit": unit,
        "noise": noise,
        "noise multiplier": f"{plan.noise_multiplier:.4g}, of counts "
        f"{plan.evaluation_noise_multiplier:.4g}",
        "clip norm": f"{plan.clip_norm:g}",
        "sampling rate": f"{plan.sampling_rate:g}",
        "steps": f"{plan.rounds} rounds of {plan.steps_per_round}",
    }
    return _table(("", ""), rows.items())


def _caveats(facts: CardFacts) -> str:
    lines = [
        "The figures say how the model does on the population of these hospitals; validate it on "
        "your own before use.",
        "Noise on the counts blurs AUC and calibration, more so with few held-out records; small "
        "differences between versions tell little.",
        "Nothing here proves freedom from bias; compare the groups that matter where it is used.",
    ]
    if not {"auc_low", "auc_high"} <= facts.figures.keys():
        lines.append("No interval was computed for the AUC.")
    return "\n".join(f"- {line}" for line in lines)


def _with_intervals(figures: Mapping[str, float]) -> dict[str, str]:
    """Figures as text, an interval beside what it bounds."""
    bounds = {f"{name}_{end}" for name in figures for end in ("low", "high")}
    shown: dict[str, str] = {}
    for name, value in figures.items():
        if name in bounds:
            continue
        low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        shown[name] = f"{_number(value)}{interval}"
    return shown


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.{_DIGITS}g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(header), "|-" * len(header) + "|", *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(text: str) -> str:
    """Text on one line that opens no tag and no code."""
    return " ".join(text.split()).replace("<", "&lt;").replace("`", "'")

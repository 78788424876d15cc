"""Recording a round: its state in the database, its compliance record, its artifacts in Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from db.models import Participation
from db.queries import audit, participations, rounds, trainings
from db.session import transaction
from fl.evaluation import GroupFigures, SubgroupFigures
from fl.evaluation.subgroups import COMPARED
from tasks.aggregate import Aggregated
from tasks.cohort import OpenedRound
from tasks.coordinator import COORDINATOR_ACTOR, Coordinator


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOutcome:
    """How a round ended.

    Attributes:
        reason: why it failed; None when it completed.
        metrics: figures of the weights it started from.
        epsilon: what the training has spent after this round, at the plan's delta.
        aggregated: what it left; None when it failed or only evaluated.
        seconds: from its opening to this record.
        survivors: the hospitals whose updates are in its sum.
        faults: what was wrong and could be spared, in words.
        subgroups: figures of groups, if it measured any.
    """

    reason: str | None
    metrics: Mapping[str, float]
    epsilon: float
    aggregated: Aggregated | None
    seconds: float
    survivors: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    subgroups: tuple[SubgroupFigures, ...] = ()


@task(name="write_compliance_records", cache_policy=NO_CACHE, persist_result=False)
def write_compliance_records(
    coordinator: Coordinator, opened: OpenedRound, outcome: RoundOutcome
) -> None:
    """Closes the round and appends its compliance record, in one transaction."""
    invitation = opened.invitation
    now = coordinator.now()
    with transaction(coordinator.engine) as session:
        rounds.close_round(
            session,
            round_id=opened.round_id,
            state="failed" if outcome.reason else "completed",
            reason=outcome.reason,
            metrics=dict(outcome.metrics),
            epsilon=outcome.epsilon,
            delta=invitation.plan.delta,
            outgoing_weights=outcome.aggregated.weights if outcome.aggregated else None,
            strategy_state=outcome.aggregated.strategy_state if outcome.aggregated else None,
            now=now,
        )
        if outcome.aggregated:
            trainings.advance_training(
                session,
                training_id=invitation.training_id,
                weights=outcome.aggregated.weights,
                strategy_state=outcome.aggregated.strategy_state,
            )
        taken_part = participations.participations(session, opened.round_id)
        audit.append_event(
            session,
            actor=COORDINATOR_ACTOR,
            action="round.failed" if outcome.reason else "round.completed",
            subject=f"round:{opened.round_id}",
            details=_compliance_record(opened, outcome, taken_part),
            now=now,
        )


def leave_artifacts(
    coordinator: Coordinator, opened: OpenedRound, outcome: RoundOutcome, *, run_url: str
) -> None:
    """Leaves the round's summary, its progress in the training and a link to its MLflow run."""
    number, planned = opened.invitation.number, opened.invitation.plan.rounds
    key = f"training-{str(opened.invitation.training_id)[:8]}"
    with transaction(coordinator.engine) as session:
        taken_part = participations.participations(session, opened.round_id)
        table = summary(opened, outcome, taken_part)
    create_markdown_artifact(table, key=f"{key}-summary", description=f"Round {number}")
    create_progress_artifact(
        min(100.0, 100.0 * number / planned),
        key=f"{key}-progress",
        description=f"{min(number, planned)} of {planned} rounds",
    )
    create_link_artifact(run_url, link_text="MLflow run", key=f"{key}-mlflow")


def summary(opened: OpenedRound, outcome: RoundOutcome, taken_part: Sequence[Participation]) -> str:
    """Returns the round's summary as Markdown: its figures, those of groups, its hospitals."""
    invitation = opened.invitation
    title = f"Round {invitation.number} of {invitation.plan.rounds}"
    if invitation.kind == "evaluation":
        title = "Closing evaluation"
    lines = [f"# {title}: {invitation.model.name}", ""]
    if outcome.reason:
        lines += [f"**Failed:** {outcome.reason}", ""]
    figures = {**outcome.metrics, "epsilon": outcome.epsilon, "seconds": outcome.seconds}
    lines += ["| figure | value |", "|-|-|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in figures.items()]
    lines += _subgroups_table(outcome.subgroups)
    lines += ["", "| hospital | state | seconds | reason |", "|-|-|-|-|"]
    for participation in taken_part:
        seconds = seconds_taken(participation)
        lines.append(
            f"| {participation.hospital_id} | {participation.state} "
            f"| {'' if seconds is None else f'{seconds:.2f}'} | {participation.reason or ''} |"
        )
    if outcome.faults:
        lines += ["", *(f"- {fault}" for fault in outcome.faults)]
    return "\n".join(lines)


def _subgroups_table(subgroups: Sequence[SubgroupFigures]) -> list[str]:
    """A row for each group of each subgroup; nothing without subgroups."""
    if not subgroups:
        return []
    columns = ("subgroup", "group", "held out", *COMPARED)
    lines = ["", f"| {' | '.join(columns)} |", "|-" * len(columns) + "|"]
    for subgroup in subgroups:
        for group in subgroup.groups:
            cells = (subgroup.name, group.label, str(group.records), *_figures_of(group))
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def _figures_of(group: GroupFigures) -> list[str]:
    if group.figures is None:
        return ["too few", *("" for _ in COMPARED[1:])]
    figures = {name: getattr(group.figures, name) for name in COMPARED}
    cells = {name: "" if value is None else f"{value:.3f}" for name, value in figures.items()}
    if group.interval is not None:
        cells["auc"] += f" ({group.interval.low:.3f} to {group.interval.high:.3f})"
    return list(cells.values())


def seconds_taken(participation: Participation) -> float | None:
    """Returns the seconds from a hospital's invitation to its last message, None without one."""
    stages = (
        participation.revealed_at,
        participation.uploaded_at,
        participation.enrolled_at,
        participation.ended_at,
    )
    last = next((stage for stage in stages if stage is not None), None)
    return None if last is None else (last - participation.invited_at).total_seconds()


def _compliance_record(
    opened: OpenedRound, outcome: RoundOutcome, taken_part: Sequence[Participation]
) -> dict[str, Any]:
    """Who took part in what, under which plan, from which weights to which, and how it ended."""
    invitation = opened.invitation
    return {
        "training": str(invitation.training_id),
        "number": invitation.number,
        "kind": invitation.kind,
        "model": invitation.model.name,
        "hospitals": {p.hospital_id: p.state for p in taken_part},
        "reasons": {p.hospital_id: p.reason_code for p in taken_part if p.reason_code},
        "survivors": list(outcome.survivors),
        "faults": list(outcome.faults),
        "incoming_weights": invitation.weights,
        "outgoing_weights": outcome.aggregated.weights if outcome.aggregated else None,
        "plan": invitation.plan.model_dump(mode="json"),
        "epsilon": outcome.epsilon,
        "delta": invitation.plan.delta,
        "outcome": outcome.reason or "completed",
    }

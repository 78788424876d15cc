"""The commands about privacy: ``fedmed privacy …``; none needs a server.

fedmed privacy plan --epsilon 3 --rounds 20 --sampling-rate 1
fedmed privacy plan --epsilon 3 --rounds 20 --sampling-rate 1 --noise-shares 4 --plot spent.png
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from deployments.errors import OperatorError
from fl.architecture_spec import Architecture
from fl.spec import LEAST_COHORT, TrainingRequest
from privacy.errors import PlanError
from privacy.plan import PrivacyPlan
from privacy.settings import PrivacySettings

if TYPE_CHECKING:
    from privacy.pricing import PlanPrice

_ROWS: Final = 20
_ACCOUNTANTS: Final = {
    "gaussian": "exact Gaussian",
    "zcdp": "concentrated (integer noise)",
    "pld": "privacy loss distributions",
    "rdp": "Rényi",
}

_ARCHITECTURE: TypeAdapter[Architecture] = TypeAdapter(Architecture)

privacy_app = typer.Typer(help="Plan and price privacy.", no_args_is_help=True)

_out = Console()


# With a single command Typer would leave out its name.
@privacy_app.callback()
def _privacy() -> None: ...


@privacy_app.command("plan")
def privacy_plan(
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds to train; the recipe's unless given.")
    ] = None,
    architecture: Annotated[
        str, typer.Option(help="Whose recipe: logistic, mlp, hog-logistic, cnn or resnet-18.")
    ] = "logistic",
    epsilon: Annotated[float | None, typer.Option(help="Epsilon to stay under.")] = None,
    noise_multiplier: Annotated[
        float | None, typer.Option(help="Noise in units of the clip norm, instead of epsilon.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Delta of epsilon.")] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(help="Chance of a record to enter a step; 1 is full batch.")
    ] = None,
    steps_per_round: Annotated[
        int | None, typer.Option(help="Steps in a round; the plan shows how many if left out.")
    ] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Bound of a record's gradient.")] = None,
    expected_batch_size: Annotated[
        int | None, typer.Option(help="Divisor of the noisy sum of gradients.")
    ] = None,
    noise_shares: Annotated[
        int | None, typer.Option(help="Honest hospitals that share the noise under the sum.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw epsilon by round to this PNG.", dir_okay=False)
    ] = None,
) -> None:
    """Show the plan that a training would run under, and what it costs a row."""
    # dp-accounting warns of Rényi orders that it leaves out; the rest give a bound all the same.
    logging.getLogger("absl").setLevel(logging.ERROR)
    # The accountants bring SciPy; the command's help should not wait for it.
    from fl.recipes import completed
    from privacy.calibration import plan_for
    from privacy.pricing import epsilon_by_round, price

    if plot is not None:
        _require_writable(plot)
    asked = {
        "epsilon": epsilon,
        "noise_multiplier": noise_multiplier,
        "delta": delta,
        "sampling_rate": sampling_rate,
        "steps_per_round": steps_per_round,
        "clip_norm": clip_norm,
        "expected_batch_size": expected_batch_size,
        "noise_shares": noise_shares,
    }
    request = PrivacySettings().completed(
        {name: value for name, value in asked.items() if value is not None}
    )
    # The fewest hospitals of which so many are honest, should a third collude.
    cohort = max(LEAST_COHORT, math.ceil(1.5 * request.noise_shares))
    training = TrainingRequest(model="model", rounds=rounds, privacy=request, least_cohort=cohort)
    try:
        complete = completed(training, _architecture(architecture))
        plan = plan_for(complete.privacy, rounds=complete.rounds)
        cost, spent = price(plan), epsilon_by_round(plan)
    except PlanError as error:
        raise OperatorError(str(error)) from error
    for table in (_plan_table(plan), _price_table(plan, cost), _round_table(spent)):
        _out.print(table)
    if plot is not None:
        _draw(plot, spent)
        _out.print(f"drawn to {plot}", highlight=False)


def _architecture(kind: str) -> Architecture:
    try:
        return _ARCHITECTURE.validate_python({"kind": kind})
    except ValidationError:
        raise OperatorError(
            f"architecture {kind!r}: name one of logistic, mlp, hog-logistic, cnn, resnet-18"
        ) from None


def _plan_table(plan: PrivacyPlan) -> Table:
    table = _table("privacy plan", "constant", "value")
    everybody = plan.sampling_rate == 1
    shared = f" in all, shared by {plan.noise_shares} hospitals" if plan.noise_shares > 1 else ""
    rows: dict[str, Any] = {
        "rounds": plan.rounds,
        "steps a round": plan.steps_per_round,
        "sampling rate": f"{plan.sampling_rate:g}{' (full batch)' if everybody else ''}",
        "clip norm": f"{plan.clip_norm:g}",
        "expected batch size": plan.expected_batch_size,
        "noise multiplier": f"{plan.noise_multiplier:.4f}{shared}",
        "noise on a sum of gradients": f"{plan.noise_multiplier * plan.clip_norm:.4f}",
        "evaluations on held-out rows": plan.all_evaluations,
        "noise on a count of held-out rows": f"{plan.evaluation_noise_multiplier:.4f}",
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def _price_table(plan: PrivacyPlan, cost: PlanPrice) -> Table:
    table = _table(f"price at delta {plan.delta:g}", "what", "accountant", "epsilon")
    by = _ACCOUNTANTS[cost.accountant]
    table.add_row("a row trained on", by, f"{cost.epsilon_trained:.4f}")
    table.add_row("a row held out", _ACCOUNTANTS["zcdp"], f"{cost.epsilon_held_out:.4f}")
    table.add_row("the plan: the larger of both", "", f"{cost.epsilon:.4f}")
    table.add_row("the same, for comparison", _ACCOUNTANTS["rdp"], f"{cost.epsilon_rdp:.4f}")
    if cost.epsilon_local is not None:
        table.add_row("it, if all other hospitals collude", by, f"{cost.epsilon_local:.4f}")
    return table


def _round_table(spent: Sequence[float]) -> Table:
    table = _table("epsilon by round", "after round", "spent", "by this round")
    every = -(-len(spent) // _ROWS)
    for number, (before, after) in enumerate(zip((0.0, *spent), spent, strict=False), start=1):
        if number == 1 or number % every == 0 or number == len(spent):
            table.add_row(str(number), f"{after:.4f}", f"{after - before:.4f}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _require_writable(plot: Path) -> None:
    if plot.suffix.lower() != ".png":
        raise OperatorError(f"{plot}: the plot is a PNG; name a file that ends in .png")
    if not plot.resolve().parent.is_dir():
        raise OperatorError(f"{plot}: there is no such folder; make it first")


def _draw(plot: Path, spent: Sequence[float]) -> None:
    from tasks.plots import history_figure

    history = [{"epsilon": epsilon} for epsilon in (0.0, *spent)]
    try:
        history_figure(history, "epsilon", "epsilon").savefig(plot, dpi=150)
    except OSError as error:
        raise OperatorError(f"{plot}: {error.strerror or error}") from error

"""A hospital's own report on a training: ``fedmed hospital report``.

fedmed hospital report --hospital-id north
fedmed hospital report --hospital-id north --model breast-cancer --output report.html
fedmed hospital report --hospital-id north --training 3f1c…

The hospital's own figures lie on its disk; those of all hospitals are asked of the coordinator. If
it is away, the report goes without them and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console

from db.disk import replace_file
from deployments.cli_site import ApiUrl, HospitalId, open_here, reached
from deployments.errors import OperatorError

if TYPE_CHECKING:
    from fl.local_report import LocalReport
    from tasks.hospital.exchange import TrainingFigures
    from tasks.hospital.site import SiteSettings

report_app = typer.Typer()

_out = Console()


@report_app.command("report")
def hospital_report(
    hospital_id: HospitalId,
    training: Annotated[UUID | None, typer.Option(help="The training's id.")] = None,
    model: Annotated[str | None, typer.Option(help="The newest training of this model.")] = None,
    output: Annotated[Path, typer.Option(help="The HTML file to write.", dir_okay=False)] = Path(
        "report.html"
    ),
    api_url: ApiUrl = None,
) -> None:
    """Write this hospital's own figures beside those of all hospitals; nothing is sent."""
    from deployments.report.page import page
    from tasks.hospital.own_figures import OwnFiguresBroken, kept_reports

    if training is not None and model is not None:
        raise OperatorError("give --training or --model, not both")
    site = open_here(hospital_id, api_url)
    try:
        report = _chosen(kept_reports(site), training=training, model=model)
    except OwnFiguresBroken as error:
        raise OperatorError(str(error)) from None
    shared, trouble = _shared(site.settings, report)
    text = page(
        report, hospital_id=hospital_id, shared=shared, trouble=trouble, now=datetime.now(UTC)
    )
    try:
        replace_file(output, text.encode())
    except OSError as error:
        raise OperatorError(f"{output}: {error.strerror}; --output names another file") from None
    _print(f"wrote {output}: {report.model}, {report.whole.records} held-out records")
    if trouble is not None:
        _print(trouble)


def _chosen(
    kept: Sequence[LocalReport], *, training: UUID | None, model: str | None
) -> LocalReport:
    """Returns the newest that is asked for.

    Raises:
        OperatorError: there is none.
    """
    if not kept:
        raise OperatorError(
            "no evaluation is kept here yet: this hospital keeps its figures when it takes part in "
            "the closing evaluation at the end of a training"
        )
    fits = [
        report
        for report in kept
        if training in (None, report.training_id) and model in (None, report.model)
    ]
    if not fits:
        asked = f"training {training}" if training is not None else f"model {model!r}"
        named = ", ".join(f"{report.model} {report.training_id}" for report in kept[:5])
        raise OperatorError(f"no evaluation of {asked} is kept here; the newest kept: {named}")
    return fits[0]


def _shared(
    settings: SiteSettings, report: LocalReport
) -> tuple[TrainingFigures | None, str | None]:
    """The figures of all hospitals, or why there are none or they are not of the same weights."""
    try:
        with reached(settings) as exchange:
            shared = exchange.figures(report.training_id)
    except OperatorError as error:
        return None, f"Without the figures of all hospitals: {error}"
    if shared.weights is None:
        return None, (
            "Without the figures of all hospitals: the closing evaluation is not completed "
            f"(training {shared.state})"
        )
    if shared.weights != report.weights:
        return shared, (
            "The figures of all hospitals are of other weights than this hospital's: it did not "
            "take part in the last closing evaluation"
        )
    return shared, None


def _print(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)

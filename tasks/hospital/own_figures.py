"""A hospital's own figures of a training's final weights: computed in its run, kept on its disk.

work_locally(..., scored=partial(keep_own_figures, site, invitation))
for report in kept_reports(site): report.whole.auc
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fl.invitation import RoundInvitation
from fl.local_report import LocalReport, report_of
from fl.table import Table
from tasks.hospital.site import Site


class OwnFiguresBroken(Exception):
    """A kept record is none of this version; the text says which and what to do."""


def keep_own_figures(
    site: Site, invitation: RoundInvitation, scores: NDArray[np.float64], table: Table
) -> None:
    """Keeps this hospital's exact figures of the evaluated weights, in its own store.

    They are for its own people: a failure to keep them ends no round of all hospitals, and is an
    entry in the hospital's own log.
    """
    now = datetime.now(UTC)
    try:
        report = report_of(invitation, scores=scores, table=table, now=now)
        site.evaluations.keep(invitation.training_id, report=report.model_dump_json(), at=now)
    except Exception as error:
        details = {"type": type(error).__name__, "detail": repr(error)}
        site.store.log("own-figures-not-kept", {"training": str(invitation.training_id), **details})


def kept_reports(site: Site) -> list[LocalReport]:
    """Returns what was kept, the newest first.

    Raises:
        OwnFiguresBroken: a record cannot be read.
    """
    try:
        return [LocalReport.model_validate_json(text) for text in site.evaluations.kept()]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the record"
        raise OwnFiguresBroken(
            f"records/site.db, evaluations: {place}: {first['msg']}; it was changed, or kept by "
            "another version of this program"
        ) from None

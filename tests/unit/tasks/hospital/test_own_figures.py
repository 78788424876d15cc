"""What a hospital keeps of a closing evaluation, for its own people, and that none of it leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from db.site_evaluations import SiteEvaluations
from fl.evaluation import EDGES
from privacy.noise import SecureGenerator
from tasks.hospital.own_figures import OwnFiguresBroken, kept_reports
from tasks.hospital.site import Site
from tasks.hospital.stages import take_part

Begin = Callable[..., Any]  # the fake exchange of conftest.py


def taking_part(site: Site, exchange: Any) -> None:
    take_part(site, exchange.invitation, exchange, generator=SecureGenerator.from_os())


def test_only_a_closing_evaluation_keeps_figures_and_they_do_not_leave(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.hospital.stages.noised_counts", lambda counts, **_: counts)
    taking_part(site, begin())
    assert kept_reports(site) == []
    exchange = begin(number=2, kind="evaluation")
    taking_part(site, exchange)
    (own,) = kept_reports(site)
    assert own.training_id == exchange.invitation.training_id
    assert own.weights == exchange.invitation.weights
    fine = np.array([own.whole.negatives, own.whole.positives])
    starts = np.round(EDGES[:-1] * fine.shape[1]).astype(int)
    assert np.array_equal(np.add.reduceat(fine, starts, axis=1).ravel(), exchange.result.counts)
    assert list(exchange.sent) == ["enrolment", "upload", "reveal"]
    assert not any(b"brier" in body for body in exchange.sent.values())


def test_a_repeated_closing_evaluation_takes_the_place_of_the_first(
    site: Site, begin: Begin
) -> None:
    for number in (1, 2):
        taking_part(site, begin(number=number, kind="evaluation"))
    assert len(kept_reports(site)) == 1


def test_figures_that_cannot_be_kept_are_logged_and_the_round_goes_on(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(SiteEvaluations, "keep", full)
    exchange = begin(kind="evaluation")
    taking_part(site, exchange)
    assert exchange.result is not None
    (entry,) = [e for e in site.store.entries() if e.event == "own-figures-not-kept"]
    assert entry.details["type"] == "OSError"
    assert entry.details["training"] == str(exchange.invitation.training_id)


def test_a_record_that_was_changed_is_named(site: Site, begin: Begin) -> None:
    taking_part(site, begin(kind="evaluation"))
    with sqlite3.connect(site.settings.hospital_home / "records" / "site.db") as database:
        database.execute(
            "UPDATE evaluations SET report = replace(report, '\"version\":1', '\"version\":2')"
        )
    database.close()
    with pytest.raises(OwnFiguresBroken, match=r"evaluations: version: .*another version"):
        kept_reports(site)

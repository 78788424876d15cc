"""`fedmed hospital report`: which training, which file, what it says without the others' part."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
import pytest

from deployments import cli_site
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from fl.local_report import LocalReport, figures_of
from tasks.hospital.exchange import TrainingFigures
from tasks.hospital.exchange_errors import ExchangeRefused
from tasks.hospital.site import Site, credential_file, open_site

OLD, NEW, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)
WEIGHTS = "a" * 64


class FakeExchange:
    """As much of the exchange's client as is called; ``error`` comes in place of figures."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.weights: str | None = WEIGHTS
        self.asked: list[UUID] = []

    def connect(self, *_: object, **__: object) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def figures(self, training_id: UUID) -> TrainingFigures:
        self.asked.append(training_id)
        if self.error is not None:
            raise self.error
        return TrainingFigures(
            training_id=training_id,
            model="breast-cancer",
            version=1,
            state="running",
            weights=self.weights,
            metrics={"auc": 0.912, "auc_low": 0.4, "auc_high": 1.0},
        )


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    fake = FakeExchange()
    monkeypatch.setattr(cli_site.ExchangeClient, "connect", fake.connect)
    return fake


@pytest.fixture
def site(settings: StackSettings, tmp_path: Path) -> Site:
    """The site of north, which has its credential and has kept nothing."""
    place = settings.site("north", tmp_path)
    credential_file(place).write_text('{"client_id": "north", "client_secret": "s3cret"}')
    return open_site(place)


@pytest.fixture
def kept(site: Site) -> Site:
    """North with three kept evaluations, two of one model."""
    for day, (training, model) in enumerate(
        [(OLD, "breast-cancer"), (NEW, "breast-cancer"), (OTHER, "diabetes")], start=1
    ):
        at = datetime(2026, 1, day, tzinfo=UTC)
        report = LocalReport(
            training_id=training,
            model=model,
            purpose="research",
            weights=WEIGHTS,
            evaluated_at=at,
            label="ill",
            classes=("no", "yes"),
            whole=figures_of([0.1, 0.9, 0.4, 0.6] * 10, [0, 1, 1, 0] * 10),
        )
        site.evaluations.keep(training, report=report.model_dump_json(), at=at)
    return site


@pytest.fixture
def report(fedmed: Any, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Runs the command; returns what it printed and the file that it wrote."""
    output = tmp_path / "out.html"

    def run(*arguments: str) -> tuple[str, str]:
        done = fedmed(
            "hospital", "report", "--hospital-id", "north", "--output", str(output), *arguments
        )
        if done.exception is not None:
            raise done.exception
        assert os.stat(output).st_mode & 0o777 == 0o600
        return done.stdout, output.read_text()

    return run


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ((), OTHER),
        (("--model", "breast-cancer"), NEW),
        (("--training", str(OLD)), OLD),
    ],
)
def test_the_newest_that_is_asked_for_is_shown(
    kept: Site, exchange: FakeExchange, report: Any, arguments: tuple[str, ...], chosen: UUID
) -> None:
    printed, text = report(*arguments)
    assert str(chosen) in text
    assert "0.912" in text
    assert "lies within the interval of all hospitals" in text
    assert exchange.asked == [chosen]
    assert len(printed.splitlines()) == 1
    assert "40 held-out records" in printed


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), ExchangeRefused("GET /exchange/…: training 3 does not exist")],
)
def test_without_the_coordinator_the_local_part_is_there_and_says_so(
    kept: Site, exchange: FakeExchange, report: Any, error: Exception
) -> None:
    exchange.error = error
    printed, text = report()
    assert str(OTHER) in text
    assert "Without the figures of all hospitals" in text
    assert "Without the figures of all hospitals" in printed


@pytest.mark.parametrize(
    ("weights", "said"),
    [(None, "is not completed (training running)"), ("b" * 64, "are of other weights")],
)
def test_figures_of_all_that_are_not_comparable_are_said_to_be_so(
    kept: Site, exchange: FakeExchange, report: Any, weights: str | None, said: str
) -> None:
    exchange.weights = weights
    printed, text = report()
    assert said in printed
    assert said in text
    assert "lies within" not in text


def test_without_a_kept_evaluation_it_says_what_keeps_one(site: Site, report: Any) -> None:
    with pytest.raises(OperatorError, match=r"no evaluation is kept here yet: .* takes part in"):
        report()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--training", str(UUID(int=9))), f"no evaluation of training {UUID(int=9)} .*{OTHER}"),
        (("--model", "heart"), "no evaluation of model 'heart'"),
        (("--model", "diabetes", "--training", str(OLD)), "not both"),
        (("--output", "/nowhere/report.html"), "/nowhere/report.html: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(
    kept: Site, exchange: FakeExchange, report: Any, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(OperatorError, match=said) as raised:
        report(*arguments)
    assert len(str(raised.value).splitlines()) == 1

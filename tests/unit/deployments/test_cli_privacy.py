"""``fedmed privacy plan``: what it shows, what it draws, what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments import cli
from deployments.errors import OperatorError
from fl.architecture_spec import Logistic
from fl.recipes import completed
from fl.spec import TrainingRequest
from privacy.calibration import plan_for
from privacy.plan import PrivacyPlan, PrivacyRequest
from privacy.pricing import epsilon_by_round, price

FULL_BATCH = (
    *("--sampling-rate", "1", "--steps-per-round", "1"),
    *("--epsilon", "3", "--rounds", "20"),
)


def planned(privacy: PrivacyRequest) -> PrivacyPlan:
    """The plan of twenty rounds of a linear model, as its recipe completes it."""
    asked = TrainingRequest(model="model", rounds=20, privacy=privacy, least_cohort=6)
    complete = completed(asked, Logistic())
    return plan_for(complete.privacy, rounds=complete.rounds)


def cells(shown: str, first: str) -> list[str]:
    """The cells of the first row that begins so."""
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in shown.splitlines()]
    return next(row for row in rows if row and row[0] == first)


def test_a_full_batch_plan_with_its_price(fedmed: Any) -> None:
    shown = fedmed("privacy", "plan", *FULL_BATCH).stdout
    plan = planned(PrivacyRequest(epsilon=3, sampling_rate=1, steps_per_round=1))
    assert cells(shown, "noise multiplier")[1] == f"{plan.noise_multiplier:.4f}"
    assert cells(shown, "sampling rate")[1] == "1 (full batch)"
    assert cells(shown, "a row trained on")[1:] == ["exact Gaussian", "3.0000"]
    assert cells(shown, "a row held out")[1:] == ["concentrated (integer noise)", "3.0000"]
    assert cells(shown, "the same, for comparison")[2] == f"{price(plan).epsilon_rdp:.4f}"
    assert "collude" not in shown


def test_each_round_adds_to_what_is_spent(fedmed: Any) -> None:
    shown = fedmed("privacy", "plan", *FULL_BATCH).stdout
    plan = planned(PrivacyRequest(epsilon=3, sampling_rate=1, steps_per_round=1))
    spent = epsilon_by_round(plan)
    for number in (1, 2, 20):
        assert cells(shown, str(number))[1] == f"{spent[number - 1]:.4f}"
    assert cells(shown, "2")[2] == f"{spent[1] - spent[0]:.4f}"


def test_shared_noise_shows_what_it_is_worth_alone(fedmed: Any) -> None:
    shown = fedmed("privacy", "plan", *FULL_BATCH, "--noise-shares", "4").stdout
    request = PrivacyRequest(epsilon=3, sampling_rate=1, steps_per_round=1, noise_shares=4)
    local = price(planned(request)).epsilon_local
    assert cells(shown, "it, if all other hospitals collude")[2] == f"{local:.4f}"
    assert "shared by 4 hospitals" in cells(shown, "noise multiplier")[1]


def test_all_options_reach_the_plan(fedmed: Any) -> None:
    done = fedmed(
        *("privacy", "plan", "--noise-multiplier", "2.5", "--delta", "1e-6", "--rounds", "2"),
        *("--sampling-rate", "0.1", "--steps-per-round", "3", "--clip-norm", "0.25"),
        *("--expected-batch-size", "17"),
    )
    assert done.exit_code == 0, done.exception
    shown = done.stdout
    assert cells(shown, "noise multiplier")[1] == "2.5000"
    assert cells(shown, "noise on a sum of gradients")[1] == "0.6250"
    assert (cells(shown, "steps a round")[1], cells(shown, "rounds")[1]) == ("3", "2")
    assert cells(shown, "expected batch size")[1] == "17"
    assert "price at delta 1e-06" in shown
    assert cells(shown, "a row trained on")[1] == "privacy loss distributions"


def test_a_long_training_shows_some_of_its_rounds(fedmed: Any) -> None:
    shown = fedmed("privacy", "plan", "--sampling-rate", "1", "--rounds", "210").stdout
    table = shown[shown.index("epsilon by round") :]
    numbers = [line.split("│")[1].strip() for line in table.splitlines() if "│" in line]
    assert numbers[:3] == ["1", "11", "22"]
    assert numbers[-1] == "210"
    assert len(numbers) <= 21


def test_the_environment_gives_what_is_left_out(
    fedmed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMED_SAMPLING_RATE", "1")
    monkeypatch.setenv("FEDMED_NOISE_MULTIPLIER", "30")
    assert cells(fedmed("privacy", "plan").stdout, "noise multiplier")[1] == "30.0000"
    shown = fedmed("privacy", "plan", "--epsilon", "2").stdout
    assert cells(shown, "a row trained on")[1:] == ["exact Gaussian", "2.0000"]


def test_the_course_of_epsilon_is_drawn(fedmed: Any, tmp_path: Path) -> None:
    file = tmp_path / "spent.png"
    done = fedmed("privacy", "plan", *FULL_BATCH, "--plot", str(file))
    assert done.exit_code == 0, done.exception
    assert file.read_bytes().startswith(b"\x89PNG")
    assert done.stdout.splitlines()[-1] == f"drawn to {file}"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("--epsilon", "3", "--noise-multiplier", "2"), ValidationError, "not both"),
        (("--epsilon", "99"), ValidationError, "less than or equal to 20"),
        (("--noise-shares", "3", "--sampling-rate", "0.2"), ValidationError, "noise_shares 3"),
        (("--epsilon", "0.01", "--rounds", "1000"), OperatorError, "allow a larger epsilon"),
        (("--plot", "spent.pdf"), OperatorError, "spent.pdf: the plot is a PNG"),
        (("--plot", "no/such/spent.png"), OperatorError, "there is no such folder"),
    ],
)
def test_a_mistake_is_refused(
    fedmed: Any, arguments: tuple[str, ...], error: type[Exception], said: str
) -> None:
    done = fedmed("privacy", "plan", "--sampling-rate", "1", *arguments)
    assert isinstance(done.exception, error)
    assert said in str(done.exception)
    assert done.stdout == ""


def test_a_plot_that_cannot_be_written_is_a_mistake(fedmed: Any, tmp_path: Path) -> None:
    name = tmp_path / f"{'x' * 300}.png"
    done = fedmed("privacy", "plan", *FULL_BATCH, "--plot", str(name))
    assert isinstance(done.exception, OperatorError)
    assert "File name too long" in str(done.exception)


@pytest.mark.parametrize("arguments", [("--rounds", "0"), ("--epsilon", "99"), ("--epsilon", "x")])
def test_on_the_command_line_a_mistake_is_one_line(
    settings: Any,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedmed", "privacy", "plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("fedmed: ")
    assert shown.err.count("\n") == 1

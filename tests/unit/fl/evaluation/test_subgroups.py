"""Groups side by side: shown when there is enough to show, and how far apart."""

from __future__ import annotations

import numpy as np
import pytest

from fl.evaluation import (
    BINS,
    Evaluation,
    GroupFigures,
    SubgroupFigures,
    evaluate,
    subgroup_figures,
)
from fl.evaluation.counts import HISTOGRAM
from fl.evaluation.histogram import ScoreHistogram
from fl.evaluation.subgroups import LEAST_RECORDS
from fl.operating_point import OperatingPoint
from fl.subgroups import Subgroup

SEX = Subgroup(name="sex", groups=("f", "m"))


def counts(negatives: int, positives: int, *, wrong: int = 0) -> np.ndarray:
    """A group in which all but so many positives are found."""
    found = np.zeros(HISTOGRAM, np.int64)
    found[0], found[-1], found[BINS] = negatives, positives - wrong, wrong
    return found


def test_groups_have_the_figures_of_their_own_rows() -> None:
    both = np.stack([counts(50, 40, wrong=10), counts(30, 20)])
    figures = subgroup_figures(SEX, both, noise_std=0)
    assert figures.name == "sex"
    assert [(g.label, g.records) for g in figures.groups] == [("f", 90), ("m", 50)]
    for group, of_group in zip(figures.groups, both, strict=True):
        assert group.figures == evaluate(ScoreHistogram.from_counts(of_group))
        assert group.interval is not None
    assert figures.gap("sensitivity") == 0.25
    assert figures.gap("specificity") == 0
    assert figures.gap("auc") == pytest.approx(0.125)


def test_a_group_of_few_records_has_no_figures_and_no_gap() -> None:
    few = counts(LEAST_RECORDS - 11, 10)
    figures = subgroup_figures(SEX, np.stack([few, counts(50, 30)]), noise_std=0)
    assert figures.groups[0] == GroupFigures("f", LEAST_RECORDS - 1)
    assert figures.groups[1].figures is not None
    assert figures.gap("auc") is None
    enough = subgroup_figures(SEX, np.stack([counts(20, 10)] * 2), noise_std=0)
    assert enough.gap("auc") == 0


def test_noise_asks_for_more_records() -> None:
    """Five deviations of the noise on a sum of 16 counts, each 4, are 80 records."""
    both = np.stack([counts(50, 29), counts(60, 60)])
    few, many = subgroup_figures(SEX, both, noise_std=4).groups
    assert few.figures is None
    assert many.figures is not None


def test_a_class_that_noise_may_have_made_has_no_figures_of_its_own() -> None:
    """Of 8 counts, each 4: 57 records of a class."""
    both = np.stack([counts(90, 20), counts(20, 90)])
    mostly_healthy, mostly_ill = (
        g.figures for g in subgroup_figures(SEX, both, noise_std=4).groups
    )
    assert mostly_healthy is not None
    assert (mostly_healthy.auc, mostly_healthy.sensitivity) == (None, None)
    assert mostly_healthy.specificity == 1
    assert mostly_ill is not None
    assert (mostly_ill.auc, mostly_ill.specificity) == (None, None)
    assert mostly_ill.sensitivity == 1


def test_groups_are_read_at_one_threshold() -> None:
    both = np.stack([counts(50, 40, wrong=20), counts(50, 40)])
    point = OperatingPoint(threshold=0)
    figures = subgroup_figures(SEX, both, noise_std=0, operating_point=point)
    assert figures.gap("sensitivity") == 0
    assert {g.figures.threshold for g in figures.groups if g.figures} == {0}


def test_a_gap_is_between_the_best_and_the_worst_of_those_that_have_the_figure() -> None:
    def group(label: str, auc: float | None) -> GroupFigures:
        return GroupFigures(label, 50, Evaluation(auc=auc, records=50, positives=20))

    groups = (group("a", 0.9), group("b", None), group("c", 0.7), GroupFigures("d", 3))
    groups += (group("e", 0.8),)
    assert SubgroupFigures("x", groups).gap("auc") == pytest.approx(0.2)
    assert SubgroupFigures("x", groups[:2]).gap("auc") is None

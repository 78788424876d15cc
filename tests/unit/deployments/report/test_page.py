"""The report as a page: one file, whole, that loads nothing and quotes what it is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from deployments.report.page import page
from fl.local_report import LocalReport, OwnGroup, figures_of
from tasks.hospital.exchange import TrainingFigures

Kept = Callable[..., LocalReport]

_VOID = {"meta", "br"}
_CLOSED_AT_ONCE = {"line", "rect", "polyline", "circle"}


class Page(HTMLParser):
    """Reads a page, sees that every element is closed in order, and collects what it holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        assert tag in _CLOSED_AT_ONCE
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def made(report: LocalReport, *, trouble: str | None = None, **metrics: Any) -> tuple[str, Page]:
    shared = TrainingFigures(
        training_id=report.training_id,
        model=report.model,
        version=1,
        state="completed",
        epsilon=0.97,
        delta=1e-5,
        metrics=metrics,
        hospitals=6,
    )
    now = datetime(2026, 1, 3, tzinfo=UTC)
    text = page(
        report,
        hospital_id="north",
        shared=shared if metrics else None,
        trouble=trouble,
        now=now,
    )
    return text, Page(text)


def test_it_shows_both_sides_counts_and_a_table_beside_each_chart(kept: Kept) -> None:
    report = kept()
    _, found = made(report, auc=0.9, auc_low=0.85, auc_high=0.95, accuracy=0.8)
    assert "These figures stay at this hospital." in found.text
    assert f"{report.whole.auc:.3f}" in found.text
    assert "0.900 (0.850 to 0.950)" in found.text
    assert "epsilon 0.97 at delta 1e-05" in found.text
    assert len(found.of("svg")) == 3
    assert len(found.of("table")) == 2 + 3 + 1
    titles = {attributes["id"] for attributes in found.of("title") if "id" in attributes}
    assert {attributes["aria-labelledby"] for attributes in found.of("svg")} == titles


def test_its_own_figures_are_at_the_threshold_of_all_hospitals(kept: Kept) -> None:
    report = kept()
    own = report.whole.at(0.3)
    assert own.sensitivity != report.whole.sensitivity
    _, found = made(report, auc=0.9, threshold=0.3, records=333.4)
    assert "At the threshold 0.3" in found.text
    assert f"share of positives found {100 * (own.sensitivity or 0):.0f} %" in re.sub(
        r"found(\d)", r"found \1", found.text
    )
    assert "about 333" in found.text


def test_it_loads_nothing(kept: Kept) -> None:
    text, found = made(kept(), auc=0.9)
    assert {tag for tag, _ in found.elements} & {"script", "link", "img", "iframe", "a"} == set()
    assert not re.search(r"https?:|url\(|@import", text)
    names = {name for _, attributes in found.elements for name in attributes}
    assert names & {"src", "href", "style"} == set()
    assert any(m.get("content", "").startswith("default-src 'none'") for m in found.of("meta"))  # type: ignore[union-attr]


def test_names_are_quoted_and_never_markup(kept: Kept) -> None:
    figures = figures_of([0.1, 0.9] * 10, [0, 1] * 10)
    report = kept(
        label="<b>label</b>",
        classes=("<i>no", '"yes" & more'),
        groups=(OwnGroup(subgroup="<script>s", group="<u>g</u>", figures=figures),),
    )
    _, found = made(report, trouble="<script>alert(1)</script>", auc=0.9)
    assert {tag for tag, _ in found.elements} & {"b", "i", "u", "script"} == {"i"}
    assert all("class" in attributes for attributes in found.of("i"))  # the legend's own
    for name in ("<b>label</b>", "<i>no", '"yes" & more', "<script>s", "<u>g</u>", "<script>alert"):
        assert name in found.text


def test_a_small_group_shows_its_counts_and_no_figures(kept: Kept) -> None:
    _, found = made(kept())
    assert "m42toofew" in found.text.replace(" ", "")


def test_few_records_show_no_figures_and_no_chart(kept: Kept) -> None:
    _, found = made(kept(records=8, groups=()))
    assert found.of("svg") == []
    assert "Only 8 held-out records" in found.text
    assert found.text.count("too few") == 6


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_records_of_one_class_have_no_auc_and_no_roc_curve(kept: Kept, label: float) -> None:
    whole = figures_of([0.2, 0.8] * 10, [label] * 20)
    _, found = made(kept(whole=whole, groups=()), auc=0.9)
    assert "There is no AUC" in found.text
    assert len(found.of("svg")) == 2


def test_without_the_others_it_says_why_and_shows_its_own(kept: Kept) -> None:
    report = kept()
    _, found = made(report, trouble="Without the figures of all hospitals: it is away")
    assert "it is away" in found.text
    assert f"{report.whole.auc:.3f}" in found.text


@pytest.mark.parametrize("nonsense", ["<b>", None, float("nan"), 1e300, -1, True, [0.5], {"a": 1}])
def test_what_the_coordinator_sends_in_place_of_a_share_is_not_shown(
    kept: Kept, nonsense: Any
) -> None:
    _, found = made(kept(), auc=nonsense, auc_low=nonsense, auc_high=nonsense)
    assert "lies within" not in found.text
    assert re.search(r"guessing ?0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)–", found.text)

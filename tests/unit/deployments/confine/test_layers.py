"""The report of the layers, and what happens where the system does not offer one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from deployments.confine import (
    Confinement,
    ConfinementFailed,
    Layer,
    Places,
    confinement_report,
    landlock,
    layers,
    namespaces,
    places_of,
    require,
)
from tasks.hospital.site import SiteSettings

NAMES = [
    *("network", "shared-memory", "capabilities", "no-new-privileges", "core-files", "files"),
    *("tcp", "signals"),
]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("data", "north/tmp"):
        (tmp_path / name).mkdir(parents=True)
    home = tmp_path / "north"
    return Places(
        data_path=tmp_path / "data", home=home, temporary=home / "tmp", records=home / "records"
    )


def not_here(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EPERM, "not on this system")


def test_a_report_names_every_layer_and_leaves_this_process_as_it_is(places: Places) -> None:
    report = confinement_report(places)
    assert [layer.name for layer in report.layers] == NAMES
    assert len(report.lines()) == len(NAMES)
    assert Confinement.decode(report.encode()) == report
    assert Path("/proc/self/status").read_text().count("NoNewPrivs:\t0") == 1


def test_what_a_system_does_not_offer_is_named_with_its_reason_and_the_rest_is_in_force(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "leave_network", not_here)
    mounted = Path("/proc/self/mountinfo").read_text()
    report = confinement_report(places)
    assert Path("/proc/self/mountinfo").read_text() == mounted  # nothing is done to the system
    missing = {layer.name: layer.detail for layer in report.missing}
    assert "not on this system" in missing["network"]
    assert missing["shared-memory"] == "comes with the network layer"
    assert report.holds("files")
    with pytest.raises(ConfinementFailed, match="required, but this system does not give network"):
        require(report)


def test_shared_memory_is_not_mounted_over_for_the_whole_system() -> None:
    mounted = Path("/proc/self/mountinfo").read_text()
    with pytest.raises(PermissionError, match="only in mounts of its own"):
        namespaces.own_shared_memory(unlike=namespaces.mounts())
    assert Path("/proc/self/mountinfo").read_text() == mounted


def test_without_landlock_three_layers_are_missing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi_version", not_here)
    missing = {layer.name for layer in confinement_report(places).layers if not layer.in_force}
    assert missing >= {"files", "tcp", "signals"}


@pytest.mark.parametrize(
    ("abi", "missing"), [(1, {"tcp", "signals"}), (4, {"signals"}), (6, set()), (9, set())]
)
def test_an_older_kernel_s_landlock_is_used_as_far_as_it_goes(
    places: Places, monkeypatch: pytest.MonkeyPatch, abi: int, missing: set[str]
) -> None:
    monkeypatch.setattr(landlock, "abi_version", lambda: abi)
    report = confinement_report(places)
    assert report.holds("files")
    assert {name for name in ("tcp", "signals") if not report.holds(name)} == missing


def test_without_a_network_no_tcp_needs_to_be_forbidden() -> None:
    without = Confinement((Layer("network", True, ""), Layer("tcp", False, "too old")))
    require(without)
    with pytest.raises(ConfinementFailed, match="tcp: too old"):
        require(Confinement((Layer("network", False, "no"), Layer("tcp", False, "too old"))))


def test_a_table_that_confinement_would_hide_is_said_before_any_round(
    places: Places, tmp_path: Path
) -> None:
    missing = Places(
        data_path=tmp_path / "none",
        home=places.home,
        temporary=places.temporary,
        records=places.records,
    )
    with pytest.raises(ConfinementFailed, match=r"cannot use .*/none: No such file"):
        confinement_report(missing)


def test_a_layer_that_fails_after_it_was_tried_ends_the_process(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "leave_network", not_here)
    with pytest.raises(OSError, match="not on this system"):
        layers.enforce(Confinement((Layer("network", True, ""),)), places)


def test_the_report_is_json_for_the_hospital_s_log(places: Places) -> None:
    entries = json.loads(confinement_report(places).encode())
    assert all(len(entry) == 3 for entry in entries)


def test_a_child_reads_whom_to_trust_wherever_that_lies(tmp_path: Path) -> None:
    ca_file = tmp_path / "elsewhere" / "consortium-ca.pem"
    settings = SiteSettings(
        hospital_id="north",
        hospital_home=tmp_path / "north",
        data_path=tmp_path / "data",
        api_url="https://fedmed.example.org",
        ca_file=ca_file,
    )
    access = {rule.path: rule.access for rule in places_of(settings).rules()}
    assert access[ca_file] == landlock.Access.READ_FILE

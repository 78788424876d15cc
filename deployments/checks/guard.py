"""What holds a training on this machine: the approved code and the layers of confinement."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.checks.report import Finding, Place, fail, ok, warn
from deployments.confine import ConfinementFailed, confinement_report, places_of
from tasks.hospital.allowed_flows import CodeNotApproved, require_approved


def check_code(place: Place) -> Iterator[Finding]:
    """The installed code is the one that this hospital approved."""
    from deployments.admission import installed_flows

    for flow, code in installed_flows().items():
        try:
            require_approved(place.settings, flow, code)
        except CodeNotApproved as error:
            yield fail(str(error))
        else:
            yield ok(f"{flow} is approved as it is installed, {code[:16]}…")


def check_confinement(place: Place) -> Iterator[Finding]:
    """Which layers hold a training; they are tried in a process that ends right after."""
    settings = place.settings
    if place.data_path is not None:
        settings = settings.model_copy(update={"data_path": place.data_path})
    try:
        report = confinement_report(places_of(settings))
    except ConfinementFailed as error:
        yield fail(str(error))
        return
    required = settings.confinement == "required"
    for layer in report.missing:
        yield (fail if required else warn)(f"without {layer.name}: {layer.detail}")
    held = [layer.name for layer in report.layers if layer.in_force]
    yield ok(f"a training is held by {', '.join(held)}")

"""A hospital's site on the disk, its table, and an invitation that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import numpy as np
import pytest

from fl.invitation import RosterEntry, RoundInvitation
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan
from privacy.secagg import Identity
from tasks.hospital.site import Site, SiteSettings, open_site, write_secret

SPEC: Final = ModelSpec.model_validate(
    {
        "name": "breast-cancer",
        "architecture": {"kind": "mlp", "hidden": [4]},
        "contract": {
            "columns": [
                {"name": "radius", "minimum": 0, "maximum": 30},
                {"name": "texture", "minimum": 0, "maximum": 50},
            ],
            "label": {"name": "malignant"},
        },
    }
)
PLAN: Final = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=1.0,
    sampling_rate=0.5,
    expected_batch_size=16,
    evaluation_noise_multiplier=4.0,
    steps_per_round=2,
    rounds=10,
    delta=1e-5,
)

UNATTENDED: Final = """\
expires: 9999-12-31
epsilon_per_training: 20
epsilon_total: 100
delta: 1e-5
models: any
purposes: any
approval: automatic
"""


@pytest.fixture
def settings(tmp_path: Path) -> SiteSettings:
    return SiteSettings(
        hospital_id="north",
        hospital_home=tmp_path / "north",
        data_path=tmp_path / "table.csv",
        api_url="http://127.0.0.1:1",
        peers="first-use",
    )


@pytest.fixture
def site(settings: SiteSettings) -> Site:
    keys = settings.hospital_home / "keys"
    keys.mkdir(parents=True)
    write_secret(keys / "credential.json", b'{"client_id": "north", "client_secret": "s3cret"}')
    generator = np.random.default_rng(0)
    rows = [
        f"{radius:.3f},{texture:.3f},{int(radius > 15)}"
        for radius, texture in generator.uniform(0, 30, (80, 2))
    ]
    settings.data_path.write_text("\n".join(["radius,texture,malignant", *rows]))
    write_secret(settings.hospital_home / "policy.yaml", UNATTENDED.encode())
    return open_site(settings)


@pytest.fixture
def peers() -> dict[str, Identity]:
    return {name: Identity.generate() for name in ("east", "west")}


@pytest.fixture
def invite(site: Site, peers: dict[str, Identity]) -> Callable[..., RoundInvitation]:
    """Makes invitations to rounds of one training; any field can be given."""
    training_id: UUID = uuid4()

    def make(**changes: Any) -> RoundInvitation:
        members = {**peers, "north": site.identity}
        members |= changes.pop("members", {})
        roster = tuple(
            RosterEntry(
                hospital_id=name,
                index=index,
                signing_key=members[name].public.signing_key.hex(),
                sealing_key=members[name].public.sealing_key.hex(),
            )
            for index, name in enumerate(sorted(members), start=1)
        )
        values: dict[str, Any] = {
            "round_id": uuid4(),
            "training_id": training_id,
            "number": 1,
            "kind": "training",
            "model": SPEC,
            "weights": "0" * 64,
            "plan": PLAN,
            "roster": roster,
            "deadline_s": 60,
        }
        return RoundInvitation(**(values | changes))

    return make

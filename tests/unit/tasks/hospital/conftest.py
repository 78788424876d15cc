"""A hospital's site on the disk, its table, an invitation that it accepts, and its exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import numpy as np
import pytest

from db.disk import write_new_file
from fl.architectures import initial_weights
from fl.invitation import RosterEntry, RoundInvitation
from fl.messages import (
    decode_enrolment,
    decode_reveal,
    decode_upload,
    encode_cohort,
    encode_survivors,
)
from fl.secure_round import COUNTERS, identities, sum_parameters
from fl.spec import ModelSpec
from fl.weights import decode_weights, encode_weights, layout, weights_hash
from privacy.plan import PrivacyPlan
from privacy.secagg import (
    CohortView,
    Identity,
    MemoryJournal,
    Participant,
    SecureSum,
    SumResult,
)
from tasks.hospital.site import Site, SiteSettings, open_site

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
    write_new_file(keys / "credential.json", b'{"client_id": "north", "client_secret": "s3cret"}')
    generator = np.random.default_rng(0)
    rows = [
        f"{radius:.3f},{texture:.3f},{int(radius > 15)}"
        for radius, texture in generator.uniform(0, 30, (80, 2))
    ]
    settings.data_path.write_text("\n".join(["radius,texture,malignant", *rows]))
    write_new_file(settings.hospital_home / "policy.yaml", UNATTENDED.encode())
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


@dataclass
class FakeExchange:
    """The exchange and all behind it: the coordinator's secure sum and the two peers."""

    invitation: RoundInvitation
    encoded: bytes
    peers: dict[str, Identity]
    own_index: int
    spoil_cohort: Callable[[CohortView], CohortView] = field(default=lambda view: view)
    raises: dict[str, Exception] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    result: SumResult | None = None

    def __post_init__(self) -> None:
        size = layout(decode_weights(self.encoded)).size
        self.parameters = sum_parameters(self.invitation, parameters=size)
        self.sum = SecureSum(self.parameters, identities(self.invitation))
        self.others = {
            self.invitation.index_of(name): Participant(
                self.invitation.index_of(name),
                self.parameters,
                identity,
                identities(self.invitation),
                journal=MemoryJournal(),
            )
            for name, identity in self.peers.items()
        }

    def weights(self, digest: str) -> bytes:
        assert digest == self.invitation.weights
        return self.encoded

    def wait_for(self, round_id: UUID, kind: str, *, timeout_s: float) -> bytes:
        assert (round_id, timeout_s) == (self.invitation.round_id, self.invitation.deadline_s)
        if kind in self.raises:
            raise self.raises[kind]
        return self.answers[kind]

    def put(self, round_id: UUID, kind: str, body: bytes) -> None:
        assert round_id == self.invitation.round_id
        self.sent[kind] = body
        number = self.invitation.number
        if kind == "enrolment":
            enrolments = [other.enrol(number) for other in self.others.values()]
            self.cohort = self.sum.begin(
                number,
                enrolments=[*enrolments, decode_enrolment(body)],
                model_hash=bytes.fromhex(self.invitation.weights),
            )
            shown = self.spoil_cohort(self.cohort[self.own_index])
            self.answers["cohort"] = encode_cohort(shown)
        elif kind == "upload":
            self.sum.add(decode_upload(body, parameters=self.parameters))
            for index, other in self.others.items():
                upload = other.upload(
                    number,
                    self.cohort[index],
                    model_hash=bytes.fromhex(self.invitation.weights),
                    vector=np.zeros(self.parameters.dimension, np.float32),
                    weight=1,
                    counts=np.zeros(COUNTERS, np.int64),
                )
                self.sum.add(upload)
            self.survivors = self.sum.close()
            self.answers["survivors"] = encode_survivors(self.survivors[self.own_index])
        elif kind == "reveal":
            reveals = [o.reveal(number, self.survivors[i]) for i, o in self.others.items()]
            self.result = self.sum.finish([*reveals, decode_reveal(body)])


@pytest.fixture
def begin(
    site: Site, invite: Callable[..., RoundInvitation], peers: dict[str, Identity]
) -> Callable[..., FakeExchange]:
    """Begins a round on an exchange of its own."""

    def make(*, encoded: bytes | None = None, **changes: Any) -> FakeExchange:
        spec: ModelSpec = invite().model
        encoded = encoded or encode_weights(initial_weights(spec, seed=1))
        invitation = invite(weights=weights_hash(encoded), **changes)
        return FakeExchange(invitation, encoded, peers, invitation.index_of("north"))

    return make

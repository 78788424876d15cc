"""The policies that are written for a hospital: one to fill in, one for demonstrations.

write_first_policy(settings, today=date.today())     # what `fedmed hospital start` does
write_unattended_policy(settings)                    # what the local stack does for its hospitals

Neither ever replaces a policy that is there.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Final

from db.disk import write_new_file
from tasks.hospital.policy import policy_file
from tasks.hospital.site import SiteSettings

_FIRST_HOLDS: Final = timedelta(days=365)

FIRST_POLICY: Final = """\
# What may be done with this hospital's data. Only this file says so: no coordinator can change it.
# It is read again at every round. A field that is not given has its most careful value.
# `fedmed hospital policy` shows what is in force, or what is wrong with this file.

# Last day on which rounds are answered.
expires: {expires}

# Most epsilon of one training, and of all trainings together, at this delta.
epsilon_per_training: 8
epsilon_total: 8
delta: 1e-5

# Under which name the ledger counts these patients.
cohort: all

# Fewest hospitals, this one included, with which it takes part; 3 at least.
least_cohort: 3

# local: the noise that this hospital adds itself must be enough. shared: what the others add under
# the secure sum counts too, but for most_colluding of them.
noise: local
# noise: shared
# most_colluding: 1

# A person approves each training (ask), or none that is within this file (automatic).
approval: ask

# Which models may be trained; without this list a person approves each training. `any` takes all.
# `fedmed hospital approvals` shows the code hash of a model that was asked for.
# models:
#   - name: breast-cancer
#     code_hash: 64 hexadecimal digits, or any

# What for; without this list a person approves each training. `any` takes all.
# purposes: [breast-cancer-diagnosis, research]

# When rounds are answered, in the local time of this machine or of the time zone; else at any time.
# hours: ["mon-fri 20:00-06:00", "sat,sun 00:00-24:00"]
# timezone: Europe/Vienna
"""

UNATTENDED_POLICY: Final = """\
# Of a hospital that the local stack runs, on data that need no protection: any training, unasked.
expires: 9999-12-31
epsilon_per_training: 1000
epsilon_total: 1000
delta: 1e-5
noise: shared
most_colluding: 0
models: any
purposes: any
approval: automatic
"""


def write_first_policy(settings: SiteSettings, *, today: date) -> Path | None:
    """Writes a policy that asks a person for each training; returns where, None if one is there."""
    return _write(settings, FIRST_POLICY.format(expires=today + _FIRST_HOLDS))


def write_unattended_policy(settings: SiteSettings) -> Path | None:
    """Writes a policy that asks nobody; returns where, None if one is there."""
    return _write(settings, UNATTENDED_POLICY)


def _write(settings: SiteSettings, text: str) -> Path | None:
    path = policy_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_new_file(path, text.encode())  # of mode 0600
    except FileExistsError:
        return None
    return path

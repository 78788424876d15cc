"""A hospital's own files: made once, readable by nobody else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from db.disk import write_new_file
from tasks.hospital.site import (
    Site,
    SiteIncomplete,
    SiteSettings,
    credential_file,
    open_site,
    read_credential,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_once_and_for_their_owner_alone(site: Site, settings: SiteSettings) -> None:
    keys = settings.hospital_home / "keys"
    assert {path.name for path in keys.iterdir()} == {
        *("signing.key", "sealing.key", "split.key", "credential.json")
    }
    assert all(mode(path) == 0o600 for path in keys.iterdir())
    assert mode(settings.hospital_home / "records" / "site.db") == 0o600

    again = open_site(settings)
    assert again.identity.public == site.identity.public
    assert again.split_key == site.split_key
    assert len(site.split_key) == 32


def test_the_keys_directory_is_closed_to_others(settings: SiteSettings) -> None:
    assert mode(credential_file(settings).parent) == 0o700


def test_two_hospitals_have_nothing_in_common(site: Site, tmp_path: Path) -> None:
    other = site.settings.model_copy(update={"hospital_home": tmp_path / "south"})
    write_new_file(credential_file(other), b'{"client_id": "south", "client_secret": "x"}')
    opened = open_site(other)
    assert opened.split_key != site.split_key
    assert opened.identity.public != site.identity.public


def test_without_a_credential_it_is_said_where_it_goes_and_who_gives_it(
    settings: SiteSettings,
) -> None:
    with pytest.raises(SiteIncomplete) as incomplete:
        open_site(settings)
    assert list(settings.hospital_home.rglob("*.key")) == []
    assert str(settings.hospital_home / "keys" / "credential.json") in str(incomplete.value)
    assert "ask the coordinator's operator for a join code for 'north'" in str(incomplete.value)
    assert "`fedmed hospital join http://127.0.0.1:1 CODE`" in str(incomplete.value)


def test_a_credential_is_read_and_never_shown(site: Site) -> None:
    credential = read_credential(site.settings)
    assert credential.client_secret.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(credential)
    assert "s3cret" not in str(site)


def test_a_secret_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_new_file(path, b"first")
    with pytest.raises(FileExistsError):
        write_new_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert mode(path) == 0o600


def test_a_child_reads_the_same_settings_from_its_environment(
    settings: SiteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert SiteSettings() == settings


def test_a_site_takes_only_accepted_peers_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FEDMED_PEERS", "FEDMED_LEAST_COHORT"):
        monkeypatch.delenv(name, raising=False)
    place = {"hospital_id": "north", "hospital_home": tmp_path, "data_path": tmp_path}
    unset = SiteSettings(**place, api_url="http://api")
    assert (unset.peers, unset.least_cohort) == ("accepted", 3)
    monkeypatch.setenv("FEDMED_PEERS", "first-use")
    monkeypatch.setenv("FEDMED_LEAST_COHORT", "5")
    told = SiteSettings(**place, api_url="http://api")
    assert (told.peers, told.least_cohort) == ("first-use", 5)


def test_a_site_says_where_its_witness_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDMED_LEDGER_WITNESS", raising=False)
    place = {"hospital_id": "north", "hospital_home": tmp_path, "data_path": tmp_path}
    assert SiteSettings(**place, api_url="http://api").ledger_witness is None
    monkeypatch.setenv("FEDMED_LEDGER_WITNESS", str(tmp_path / "disk"))
    told = SiteSettings(**place, api_url="http://api")
    assert told.ledger_witness == tmp_path / "disk"
    assert told.environment()["FEDMED_LEDGER_WITNESS"] == str(tmp_path / "disk")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("peers", "all"), ("least_cohort", "2"), ("least_cohort", "many")),
    ],
)
def test_a_rule_that_protects_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    monkeypatch.setenv(f"FEDMED_{field.upper()}", value)
    with pytest.raises(ValidationError, match=field):
        SiteSettings(
            hospital_id="north", hospital_home=tmp_path, data_path=tmp_path, api_url="http://api"
        )


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = SiteSettings(
        hospital_id="north",
        hospital_home=Path("site"),
        data_path=Path("data") / ".." / "table.csv",
        api_url="http://api",
    )
    assert settings.hospital_home == tmp_path / "site"
    assert settings.data_path == tmp_path / "table.csv"


@pytest.mark.parametrize("hospital_id", ["", "North", "a/b", "-north", "a" * 64, "../north"])
def test_an_id_that_could_be_a_path_is_refused(tmp_path: Path, hospital_id: str) -> None:
    with pytest.raises(ValidationError, match="hospital_id"):
        SiteSettings(
            hospital_id=hospital_id,
            hospital_home=tmp_path,
            data_path=tmp_path,
            api_url="http://api",
        )

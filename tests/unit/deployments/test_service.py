"""What runs a hospital for good: the systemd unit and the container."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.errors import OperatorError
from deployments.settings import StackSettings
from deployments.systemd_unit import unit_for
from tasks.hospital.site import SiteSettings

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deployments" / "docker"
MOST_EXPOSED = 25  # in tenths; 100 is a service without any rule


@pytest.fixture
def site(settings: StackSettings, tmp_path: Path) -> SiteSettings:
    return settings.site("north", tmp_path / "table.csv")


def read(unit: str) -> Any:
    class Repeated(dict[str, Any]):
        """Keeps a key that comes again, as ``ReadOnlyPaths`` does."""

        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(dict_type=Repeated, strict=False)  # type: ignore[arg-type]
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(unit)
    return parser["Service"]


def test_a_unit_names_this_machine_s_paths(
    site: SiteSettings, settings: StackSettings, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    place = site.model_copy(update={"ca_file": ca_file})
    unit = unit_for(place, settings.home, user="fedmed", memory_max="2G")
    assert "{" not in unit.replace("{words}", "")
    service = read(unit)
    assert service["User"] == "fedmed"
    assert service["MemoryMax"] == "2G"
    assert service["ReadWritePaths"] == str(settings.home)
    assert service["ReadOnlyPaths"].split() == [str(place.data_path), str(ca_file)]
    assert service["ExecStart"].endswith("hospital start --hospital-id north")
    assert service["RestrictNamespaces"] == "user net"
    assert (service["ProtectSystem"], service["NoNewPrivileges"]) == ("strict", "yes")


@pytest.mark.parametrize("path", ["/data/my table.csv", "/data/100%.csv", "/data/a$b"])
def test_a_path_that_a_unit_would_read_otherwise_is_refused(
    site: SiteSettings, settings: StackSettings, path: str
) -> None:
    with pytest.raises(OperatorError, match="which a unit cannot"):
        unit_for(site.model_copy(update={"data_path": Path(path)}), settings.home)


def test_without_a_table_there_is_no_unit(site: SiteSettings, settings: StackSettings) -> None:
    nowhere = site.model_copy(update={"data_path": Path(os.devnull)})
    with pytest.raises(OperatorError, match="--data-path"):
        unit_for(nowhere, settings.home)


def test_paths_below_the_homes_stay_readable(site: SiteSettings, settings: StackSettings) -> None:
    at_home = site.model_copy(update={"data_path": Path("/home/ada/table.csv")})
    assert read(unit_for(at_home, settings.home))["ProtectHome"] == "read-only"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit_and_finds_it_hardened(
    site: SiteSettings, settings: StackSettings, tmp_path: Path
) -> None:
    path = tmp_path / "fedmed-hospital-north.service"
    path.write_text(unit_for(site, settings.home, user="root"))
    analyze = ("systemd-analyze", "--no-pager")
    verified = subprocess.run([*analyze, "verify", path], capture_output=True, text=True)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    threshold = f"--threshold={MOST_EXPOSED}"
    options = ("security", "--offline=true", threshold)
    judged = subprocess.run([*analyze, *options, path], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def dockerfile() -> list[str]:
    text = (DOCKER / "hospital.Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_all_that_the_image_copies_is_there_and_reaches_the_builder() -> None:
    copied = [
        source for line in dockerfile() if line.startswith("COPY") for source in line.split()[1:-1]
    ]
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied) == kept
    assert [source for source in copied if not (ROOT / source).exists()] == []
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(copied)


def test_the_image_has_the_project_s_python_and_its_pins() -> None:
    lines = dockerfile()
    wanted = re.search(r'requires-python = ">=(3\.\d+)', (ROOT / "pyproject.toml").read_text())
    assert wanted is not None
    assert lines[0].startswith(f"FROM python:{wanted[1]}-")
    installs = [line for line in lines if "pip install" in line]
    assert installs[0] == "RUN pip install --requirement requirements.txt"
    assert all("--no-deps" in line for line in installs[1:])  # nothing that is not pinned
    assert "USER 10001:10001" in lines
    assert json.loads(lines[-2].removeprefix("ENTRYPOINT ")) == ["fedmed", "hospital"]


def test_the_container_may_write_its_site_and_nothing_else() -> None:
    compose = yaml.safe_load((DOCKER / "hospital.compose.yaml").read_text())
    service = compose["services"]["hospital"]
    dockerfile_path = (DOCKER / service["build"]["context"]).resolve()
    assert (dockerfile_path / service["build"]["dockerfile"]).exists()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] != "0:0"
    assert "no-new-privileges:true" in service["security_opt"]
    (data,) = (volume for volume in service["volumes"] if isinstance(volume, dict))
    assert (data["target"], data["read_only"]) == ("/data", True)
    assert "ports" not in service

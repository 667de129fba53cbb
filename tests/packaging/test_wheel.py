"""The wheel: both packages, nothing else, and no more to install for a client than msgpack."""

import re
import subprocess
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
LIMIT = 120.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([TREE / "dev", "wheel", folder], check=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    (made,) = folder.glob("*.whl")
    return made


def test_both_packages_are_in_it_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {re.sub(r"-.*", "", name.split("/")[0]) for name in names} == {"hostler", "hostlerd"}
    source = {
        str(path.relative_to(TREE / root))
        for root in ("client", "daemon")
        for path in (TREE / root).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {f"hostlerd/api/{path.name}" for path in (TREE / "dbus").glob("*.xml")}
    assert {name for name in names if ".dist-info/" not in name} == source


def test_a_client_needs_msgpack_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    needed = metadata.get_all("Requires-Dist") or []
    assert [re.split(r"[<>=; ]", one)[0] for one in needed if "extra ==" not in one] == ["msgpack"]
    assert {"daemon", "dev"} <= set(metadata.get_all("Provides-Extra") or [])
    assert metadata["License-Expression"] == "LGPL-2.1-or-later"

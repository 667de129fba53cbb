"""Names from pci.ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlerd.model.devices import Function
from hostlerd.observe.names import device_names

IDS = """# a comment
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t73bf  Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]
\t\t1da2 e438  Sapphire NITRO+
\tab28  Navi 21/23 HDMI/DP Audio Controller
10de  NVIDIA Corporation
\t73bf  not AMD's
C 03  Display controller
\t00  VGA compatible controller
"""


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "pci.ids"
    path.write_text(IDS)
    return str(path)


def name(vendor: int, device: int, *databases: str) -> str:
    function = Function(address="0000:01:00.0", vendor=vendor, device=device, class_code=0x030000)
    return device_names([function], databases)["0000:01:00.0"]


def test_vendor_and_device(database: str) -> None:
    assert name(0x1002, 0x73BF, database).endswith("[AMD/ATI] Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]")
    assert name(0x10DE, 0x73BF, database) == "NVIDIA Corporation not AMD's"


def test_a_device_that_is_not_listed_has_its_vendor(database: str) -> None:
    assert name(0x10DE, 0x2684, database) == "NVIDIA Corporation 2684"


def test_ids_stand_where_nothing_is_known(database: str) -> None:
    assert name(0x8086, 0x0001, database) == "8086:0001"
    assert name(0x1002, 0x73BF) == "1002:73bf"
    assert name(0, 0, database) == "unknown"


def test_the_first_database_that_is_there_counts(database: str) -> None:
    assert name(0x1002, 0xAB28, "/nowhere", database).endswith("HDMI/DP Audio Controller")


def test_the_database_is_read_once_for_the_same_ids(database: str) -> None:
    before = name(0x1002, 0x73BF, database)
    Path(database).unlink()
    assert name(0x1002, 0x73BF, database) == before

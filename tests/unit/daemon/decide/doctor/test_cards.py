"""Cards: groups with members that are somebody else's, the host's screen, drivers."""

from __future__ import annotations

import pytest
from tests.unit.daemon.decide.doctor.small import findings, function, several

from hostlerd.model.settings import DevicePolicy, Match, Settings

GPU, AUDIO, NIC, OTHER = "0000:01:00.0", "0000:01:00.1", "0000:05:00.0", "0000:09:00.0"
CARD = (
    function(GPU, group=1, driver="amdgpu"),
    function(AUDIO, group=1, code="0x040300", driver="snd_hda_intel"),
)
PORT = function("0000:00:01.0", group=1, code="0x060400", driver="pcieport")
FOREIGN = function(NIC, group=1, code="0x020000", driver="r8169")


def settings(**more: object) -> Settings:
    return Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU), **more),))  # type: ignore[arg-type]


def test_a_card_with_its_companion_behind_its_port() -> None:
    found = findings(*several(*CARD, PORT))[f"card.group:{GPU}"]
    assert found.severity == "ok"
    assert AUDIO in found.what


def test_a_foreign_member() -> None:
    found = findings(*several(*CARD, FOREIGN))[f"card.group:{GPU}"]
    assert found.severity == "warning"
    assert NIC in found.what
    assert "r8169" in found.what
    assert f'group = ["{NIC}"]' in found.do
    assert "pcie_acs_override only hides" in found.do


def test_a_foreign_member_that_policy_lets_go() -> None:
    found = findings(*several(*CARD, FOREIGN), settings=settings(group=(NIC,)))[f"card.group:{GPU}"]
    assert found.severity == "ok"


def test_the_host_s_own_screen_in_a_crowd_is_no_warning() -> None:
    own = function(OTHER, group=9, driver="amdgpu", boot_vga="1")
    crowd = function("0000:0a:00.0", group=9, code="0x010601", driver="ahci")
    found = findings(*several(*CARD, own, crowd))
    assert found[f"card.group:{OTHER}"].severity == "note"
    assert found[f"card.screen:{OTHER}"].severity == "note"
    assert f"card.screen:{GPU}" not in found


def test_a_card_in_no_group() -> None:
    files, links = several(function(OTHER, group=None), function(GPU, group=1))
    assert findings(files, links)[f"card.group:{OTHER}"].severity == "warning"
    alone = findings(*function(OTHER, group=None))
    assert f"card.group:{OTHER}" not in alone  # that the IOMMU is off says it


def test_the_only_card() -> None:
    found = findings(*function(GPU, group=1, driver="amdgpu", boot_vga="1"))[f"card.screen:{GPU}"]
    assert "only display" in found.why
    assert "display-manager.service" in found.do
    told = settings(units=("display-manager.service",))
    assert not findings(*function(GPU, group=1, driver="amdgpu", boot_vga="1"), settings=told)[
        f"card.screen:{GPU}"
    ].do


def test_the_boot_framebuffer_on_a_card() -> None:
    files, links = function(GPU, group=1, resource="0x00000000e0000000 0x00000000efffffff 0x0")
    platform = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/simple-framebuffer.0"
    files |= {f"{platform}/drm/card0/": "", "/sys/bus/platform/drivers/simple-framebuffer/bind": ""}
    links |= {
        "/sys/bus/platform/devices/simple-framebuffer.0": "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/"
        "simple-framebuffer.0",
        f"{platform}/driver": "../../../../../bus/platform/drivers/simple-framebuffer",
    }
    found = findings(files, links)
    assert "simple-framebuffer" in found[f"card.screen:{GPU}"].what
    assert "takes the boot framebuffer off" in found[f"card.screen:{GPU}"].why


@pytest.mark.parametrize(
    ("driver", "severity", "word"),
    [
        ("amdgpu", "ok", "is on amdgpu"),
        ("nouveau", "ok", "is on nouveau"),
        ("nvidia", "note", "unloads its modules"),
        ("vfio-pci", "note", "is on vfio-pci"),
    ],
)
def test_drivers(driver: str, severity: str, word: str) -> None:
    found = findings(*function(GPU, group=1, driver=driver))[f"card.driver:{GPU}"]
    assert found.severity == severity
    assert word in found.what + found.why


def test_a_card_that_policy_keeps_on_vfio() -> None:
    found = findings(*function(GPU, group=1, driver="vfio-pci"), settings=settings(when_idle="vfio"))
    assert found[f"card.driver:{GPU}"].severity == "ok"


def test_no_driver() -> None:
    files, links = several(function(GPU, group=1), function(NIC, group=2, code="0x020000", driver="r8169"))
    assert findings(files, links)[f"card.driver:{GPU}"].severity == "note"
    # Where no function has one, it is the recording that has none.
    assert not findings(*function(GPU, group=1))["drivers"].known


def test_a_card_that_somebody_must_let_go_of() -> None:
    files, links = function(GPU, group=1, **{"vfio-dev/vfio0/dev": "1:1"})
    assert findings(files, links, live=True)[f"card.driver:{GPU}"].severity == "warning"

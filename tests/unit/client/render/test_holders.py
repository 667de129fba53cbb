"""Who has a device open, as text."""

from typing import Any

import pytest

from hostler.render.holders import by_process, by_program


def holder(command: str, **more: Any) -> dict[str, Any]:
    return {"pid": 7, "command": command, "user": "ann", "unit": None, "container": None} | more


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (holder("steam"), "steam (ann)"),
        (holder("steam", unit="app-steam.scope"), "steam (ann)"),
        (holder("Xorg", unit="display-manager.service"), "Xorg (display-manager)"),
        (holder("pipewire", unit="pipewire.service"), "pipewire"),
        (holder("python3", container=HEX), "python3 (container 0123456789ab)"),
        (holder("python3", container=HEX, container_name="comfy"), "python3 (container comfy)"),
        (holder("ollama", container=HEX, container_name="ollama"), "ollama (container)"),
        (holder("qemu-system-x86", unit=r"machine-qemu\x2d1\x2dwin11.scope"), "domain win11"),
        (holder("qemu-system-x86", unit=r"machine-qemu\x2d12\x2dmy\x2dvm.scope"), "domain my-vm"),
        (holder("kernel: mounted at /home", pid=0), "the host (mounted at /home)"),
    ],
)
def test_programs(found: dict[str, Any], words: str) -> None:
    assert by_program([found]) == words


def test_a_domain_is_named_as_libvirt_does() -> None:
    qemu = holder("qemu-system-x86", unit=r"machine-qemu\x2d12\x2dmy\x2dvm.scope")
    assert by_process([qemu]) == "qemu-system-x86 (7, domain my-vm)"


def test_alike_are_counted_and_many_cut() -> None:
    many = [holder("chrome", pid=pid) for pid in (1, 1, 2, 3)]
    assert by_program(many) == "chrome x 3 (ann)"
    assert by_program([holder(f"p{n}") for n in range(5)]) == "p0 (ann), p1 (ann), p2 (ann), and 2 more"
    assert by_program([]) == by_process([]) == "-"


def test_processes() -> None:
    assert by_process([holder("steam"), holder("kernel: swap", pid=0)]) == "steam (7, ann), kernel: swap"
    assert by_process([holder("x", container=HEX, container_name="comfy")]) == "x (7, comfy)"


def test_names_of_programs_steer_no_terminal() -> None:
    assert "\033" not in by_program([holder("\033]0;x\007", container_name="\033[2J", container=HEX)])

"""Unit, session and container of a process, from its control group."""

from __future__ import annotations

import pytest

from hostlerd.model.holders import Container, Holder
from hostlerd.observe.places import Place, place

HEX = "0123456789abcdef" * 4
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "unit", "engine", "container"),
    [
        ("/system.slice/display-manager.service", "display-manager.service", None, None),
        (f"/system.slice/docker-{HEX}.scope", f"docker-{HEX}.scope", "docker", HEX),
        (f"/machine.slice/libpod-{HEX}.scope/container", f"libpod-{HEX}.scope", "podman", HEX),
        (f"/machine.slice/libpod-conmon-{HEX}.scope", f"libpod-conmon-{HEX}.scope", None, None),
        (f"/system.slice/web.service/libpod-payload-{HEX}", "web.service", "podman", HEX),
        (f"/libpod_parent/libpod-{HEX}", None, "podman", HEX),
        (f"/system.slice/nerdctl-{HEX}.scope", f"nerdctl-{HEX}.scope", "containerd", HEX),
        (
            f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{HEX}.scope",
            f"cri-containerd-{HEX}.scope",
            "containerd",
            HEX,
        ),
        (f"/kubepods.slice/kubepods-pod1.slice/crio-{HEX}.scope", f"crio-{HEX}.scope", "cri-o", HEX),
        (f"/docker/{HEX}", None, "docker", HEX),
        (f"/kubepods/besteffort/pod12/{HEX}", None, "kubernetes", HEX),
        (f"/default/{HEX}", None, "containerd", HEX),
        ("/lxc/web", None, "lxc", "web"),
        ("/lxc.payload.web/init.scope", None, "lxc", "web"),
        ("/machine.slice/systemd-nspawn@box.service/payload", "systemd-nspawn@box.service", "nspawn", "box"),
        (r"/machine.slice/machine-my\x2dbox.scope/payload", r"machine-my\x2dbox.scope", "nspawn", "my-box"),
        (
            r"/machine.slice/machine-qemu\x2d1\x2dwin11.scope/libvirt/emulator",
            r"machine-qemu\x2d1\x2dwin11.scope",
            None,
            None,
        ),
        ("/", None, None, None),
        ("", None, None, None),
    ],
)
def test_units_and_containers(path: str, unit: str | None, engine: str | None, container: str | None) -> None:
    assert place(f"0::{path}\n") == Place(unit=unit, engine=engine, container=container)


@pytest.mark.parametrize(
    "path", [f"/system.slice/docker-{HEX}.scope/system.slice/nginx.service", f"/docker/{HEX}/init.scope"]
)
def test_a_unit_inside_a_container_is_not_the_hosts(path: str) -> None:
    found = place(f"0::{path}\n")
    assert found.container == HEX
    assert found.unit in (f"docker-{HEX}.scope", None)


def test_the_outermost_container_counts() -> None:
    inner = "f" * 64
    assert place(f"0::/system.slice/docker-{HEX}.scope/docker/{inner}\n").container == HEX


def test_sessions_and_managers_of_users() -> None:
    assert place("0::/user.slice/user-1000.slice/session-c2.scope\n") == Place(
        unit="session-c2.scope", session="c2"
    )
    assert place(f"0::{USER}/app.slice/app-steam.scope\n") == Place(
        unit="app-steam.scope", manager="user@1000.service"
    )
    assert place(f"0::{USER}/init.scope\n") == Place(unit="init.scope", manager="user@1000.service")
    rootless = place(f"0::{USER}/user.slice/libpod-{HEX}.scope/container\n")
    assert rootless == Place(
        unit=f"libpod-{HEX}.scope", manager="user@1000.service", engine="podman", container=HEX
    )


def test_of_control_groups_v1_systemds_own_count() -> None:
    assert place(f"12:cpuset:/\n1:name=systemd:/docker/{HEX}\n").container == HEX
    assert place("12:cpuset:/system.slice/x.service\n") == Place()
    assert place("rubbish") == Place()


@pytest.mark.parametrize(
    ("manager", "owner"), [(None, None), ("user@1000.service", 1000), ("user@0.service", None)]
)
def test_whose_engine_a_container_is_of(manager: str | None, owner: int | None) -> None:
    values = {"address": "", "pid": 1, "command": "x", "user": "x", "unit": None, "node": ""}
    holder = Holder(**values, container=HEX, engine="podman", manager=manager)  # type: ignore[arg-type]
    assert holder.in_container == Container(engine="podman", id=HEX, owner=owner)
    assert holder.place == f"container {HEX[:12]}"

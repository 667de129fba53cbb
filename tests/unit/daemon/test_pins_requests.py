"""`hostler pins` and where memory is, through the whole daemon: socket, service, libvirt, and what the client shows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.unit.daemon.test_main import LIMIT, call, daemon

from hostler.errors import BadInput, Refused
from hostler.render import domains as render
from hostler.render import status as render_status
from hostlerd.host.simulated.guests import domain

FAR = "<cputune>" + "".join(f"<vcpupin vcpu='{i}' cpuset='{i}'/>" for i in range(4)) + "</cputune>"
FAR += "<numatune><memory mode='strict' nodeset='1'/></numatune>"


def test_written_shown_and_taken_back(tmp_path: Path) -> None:
    with daemon(tmp_path, host="server"):
        call(tmp_path, "simulate", action="define", xml=domain("win11", memory_mib=8192))
        with pytest.raises(Refused, match="floats"):  # it has no device of the host
            call(tmp_path, "pins", domain="win11")
        (tmp_path / "hostler.toml").write_text('[domains]\ncpus = "dedicated"\n')
        call(tmp_path, "reload")
        dry = call(tmp_path, "pins", domain="win11", dry_run=True)
        assert "+" in dry["diff"]
        assert call(tmp_path, "domains")["domains"][0]["pins_edit"] is None
        assert call(tmp_path, "pins", domain="win11")["after"] == dry["after"]
    with daemon(tmp_path, host="server"):  # another life of it
        (shown,) = call(tmp_path, "domains")["domains"]
        assert shown["vcpu_pins"] == {}  # explicit ones alone
        edit = shown["pins_edit"]
        assert (edit["by"], sorted(edit["vcpus"]), edit["memory"], edit["mode"]) == (
            "user",
            ["0", "1", "2", "3"],
            "0",
            "strict",
        )
        assert "`hostler pins win11 undo` takes it back" in render.render_one(shown)
        call(tmp_path, "pins", domain="win11", undo=True)
        (shown,) = call(tmp_path, "domains")["domains"]
        assert shown["pins_edit"] is None
        with pytest.raises(Refused, match="no edit of hostler's of where it begins"):
            call(tmp_path, "pins", domain="win11", undo=True)
        with pytest.raises(BadInput, match="'undo' is true or false"):
            call(tmp_path, "pins", domain="win11", undo="yes")
        with pytest.raises(BadInput, match="no domain 'nobody'"):
            call(tmp_path, "pins", domain="nobody")


def test_memory_is_shown_and_what_is_far_is_said(tmp_path: Path) -> None:
    with daemon(tmp_path, host="server"):
        call(tmp_path, "simulate", action="define", xml=domain("win11").replace("<os>", FAR + "<os>"))
        call(tmp_path, "simulate", action="start", name="win11")
        deadline = time.monotonic() + LIMIT
        while not (shown := call(tmp_path, "domains")["domains"][0])["notes"]:
            assert time.monotonic() < deadline
        assert [row["node"] for row in shown["memory"]] == [0, 1]
        assert shown["memory"][1]["kib"] == 4 << 20
        assert any("is on node 1, and its vCPUs are on node 0; " in note for note in shown["notes"])
        text = render.render_one(shown)
        assert "node 1: 4 GiB" in text
        status = call(tmp_path, "status")
        assert [warning["object"] for warning in status["warnings"]] == ["win11"]
        assert "could be better: win11" in render_status.render(status)

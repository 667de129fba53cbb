"""`hostler gpu` through the whole daemon: socket, service, simulated libvirt, and what the client shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.daemon.test_main import GPU, call, daemon

from hostler.errors import BadInput, Refused
from hostlerd.host.simulated.guests import domain


def test_from_passthrough_to_emulated_and_back(tmp_path: Path) -> None:
    with daemon(tmp_path):
        call(tmp_path, "simulate", action="define", xml=domain("win11", hostdevs=[GPU]))
        dry = call(tmp_path, "gpu", domain="win11", way="emulated", dry_run=True)
        assert dry["changed"]
        assert "+      <model type='virtio'/>" in dry["diff"] or "<video" in dry["diff"]
        made = call(tmp_path, "gpu", domain="win11", way="emulated")
        assert (made["before"], made["after"]) == (f"passthrough {GPU}", "emulated")
    with daemon(tmp_path):  # another life of it
        (shown,) = call(tmp_path, "domains")["domains"]
        assert (shown["gpu"], shown["edit"]["by"], shown["edit"]["before"]) == (
            "emulated",
            "user",
            f"passthrough {GPU}",
        )
        call(tmp_path, "gpu", domain=shown["uuid"], way="undo")
        call(tmp_path, "simulate", action="start", name="win11")
        (shown,) = call(tmp_path, "domains")["domains"]
        assert (shown["gpu"], shown["edit"]) == ("passthrough", None)
        with pytest.raises(Refused, match="win11 runs"):
            call(tmp_path, "gpu", domain="win11", way="emulated")
        call(tmp_path, "simulate", action="define", xml=domain("work"))
        noted = call(tmp_path, "gpu", domain="work", way="passthrough", what=GPU)
        assert any("belongs to domain win11" in note for note in noted["notes"])


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "'way' is one of"),
        ({"way": "other"}, "'way' is one of"),
        ({"way": "passthrough"}, "'what' is missing"),
        ({"way": "emulated", "model": "vga"}, "'model' is one of"),
        ({"way": "undo", "model": "qxl"}, "a model is of an emulated display"),
        ({"way": "emulated", "live": "yes"}, "'live' is true or false"),
        ({"way": "emulated"}, "no domain 'nobody'"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, params: dict[str, object], sentence: str) -> None:
    with daemon(tmp_path), pytest.raises(BadInput, match=sentence):
        call(tmp_path, "gpu", domain="nobody", **params)

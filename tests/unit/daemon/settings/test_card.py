"""What a [[device]] section says of the card itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.errors import BadInput
from hostlerd.model.settings import DevicePolicy
from hostlerd.settings import load


def read(tmp_path: Path, text: str) -> DevicePolicy:
    path = tmp_path / "hostler.toml"
    path.write_text(f'[[device]]\nmatch = {{ address = "0000:01:00.0" }}\n{text}\n')
    (policy,) = load(str(path), str(tmp_path / "none")).devices
    return policy


def test_nothing_is_touched_that_is_not_named(tmp_path: Path) -> None:
    policy = read(tmp_path, "")
    assert (policy.vfio_driver, policy.reset, policy.bar, policy.recover) == ("auto", (), "keep", "no")


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ('reset = "keep"', ()),
        ('reset = "device_specific"', ("device_specific",)),
        ('reset = ["flr", "bus"]', ("flr", "bus")),
    ],
)
def test_resets(tmp_path: Path, text: str, reset: tuple[str, ...]) -> None:
    assert read(tmp_path, text).reset == reset


@pytest.mark.parametrize(
    ("text", "bar"),
    [
        ('bar = "keep"', "keep"),
        ('bar = "max"', "max"),
        ('bar = { "0" = "8G", "2" = "256 MiB" }', {0: 8192, 2: 256}),
    ],
)
def test_bars(tmp_path: Path, text: str, bar: object) -> None:
    assert read(tmp_path, text).bar == bar


def test_the_rest(tmp_path: Path) -> None:
    policy = read(tmp_path, 'vfio_driver = "mlx5_vfio_pci"\nrecover = "rescan"')
    assert (policy.vfio_driver, policy.recover) == ("mlx5_vfio_pci", "rescan")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('reset = "frl"', "did you mean flr"),
        ('reset = ["keep"]', "no way to reset"),
        ("reset = []", "lists no method"),
        ("reset = 1", "whole number"),
        ('bar = "most"', "cannot be"),
        ("bar = {}", "names no BAR"),
        ('bar = { "6" = "8G" }', "0 to 5"),
        ('bar = { "0" = "7G" }', "power of two"),
        ('bar = { "0" = "8" }', "power of two"),
        ('bar = { "0" = 8 }', "not text"),
        ('vfio_driver = "a b"', "no driver"),
        ('recover = "yes"', "cannot be"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        read(tmp_path, text)
    assert caught.value.data["line"] == 3

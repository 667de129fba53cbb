"""`[[slice]]` sections, and `vfs` of a `[[device]]`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.errors import BadInput
from hostlerd.model.settings import Settings, SlicePolicy
from hostlerd.settings import load

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
DEVICE = '[[device]]\nmatch = { address = "0000:05:00.0" }\n'


def read(folder: Path, text: str) -> Settings:
    path = folder / "hostler.toml"
    path.write_text(text)
    return load(str(path), "")


def test_every_key(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        f"""
[[slice]]
name = "desk"
type = "i915-GVTg_V5_4"
uuid = "{UUID.upper()}"
parent = "00:02.0"
domain = "win11"
persistent = true
[[slice]]
type = "1149"
vf = "41:00.4"
[[slice]]
type = "mbochs-small"
parent = "mbochs"
domain = "{UUID.upper()}"
{DEVICE}vfs = 4
keep_vfs = true
""",
    )
    assert settings.slices == (
        SlicePolicy(
            name="desk",
            type="i915-GVTg_V5_4",
            uuid=UUID,
            parent="0000:00:02.0",
            domain="win11",
            persistent=True,
        ),
        SlicePolicy(name="slice 2", type="1149", vf="0000:41:00.4"),
        SlicePolicy(name="slice 3", type="mbochs-small", parent="mbochs", domain=UUID),
    )
    (device,) = settings.devices
    assert (device.vfs, device.keep_vfs) == (4, True)


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (f'[[slice]]\nuuid = "{UUID}"', "has no type", 1),
        ('[[slice]]\ntype = "x"', "does not say whose it is", 1),
        (f'[[slice]]\ntype = "x"\nuuid = "{UUID}"\nvf = "41:00.4"', "not both", 4),
        ('[[slice]]\ntype = "x"\nuuid = "1"', "not a UUID", 3),
        ('[[slice]]\ntype = "x"\nvf = "1"', "not a PCI address", 3),
        ('[[slice]]\ntype = ""\ndomain = "a"', "cannot be empty", 2),
        ('[[slice]]\ntype = "x"\ndomain = "a"\nparent = "a/b"', "neither a PCI address nor a name", 4),
        ('[[slice]]\ntype = "x"\ndomain = "a"\nkind = "y"', 'unknown key "kind"', 4),
        ('[[slice]]\ntype = "x"\ndomain = "a"\n[[slice]]\ntype = "y"\ndomain = "a"', "the same slice", 4),
        (
            '[[slice]]\nname = "n"\ntype = "x"\ndomain = "a"\n[[slice]]\nname = "n"\ntype = "y"\ndomain = "b"',
            'are named "n"',
            6,
        ),
        (f"{DEVICE}vfs = -1", "vfs cannot be -1", 3),
        (f"{DEVICE}keep_vfs = true", "there is no vfs", 3),
        (f'{DEVICE}when_idle = "vfio"\nvfs = 2', "takes it away", 4),
        ("vfs = 2", "a [[device]]", 1),
        ("[host]\npersistent = true", "a [[slice]]", 2),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str, line: int) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    assert words in caught.value.sentence
    assert caught.value.data["line"] == line


def test_the_same_type_for_two_domains_is_two_slices(tmp_path: Path) -> None:
    text = '[[slice]]\ntype = "x"\ndomain = "a"\n[[slice]]\ntype = "x"\ndomain = "b"\n'
    assert len(read(tmp_path, text).slices) == 2

"""`[claims]`, and what is not supported of libvirt."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.errors import BadInput
from hostlerd.model.settings import ClaimsPolicy, Settings
from hostlerd.settings import load


def read(folder: Path, text: str, more: str = "") -> Settings:
    (folder / "hostler.toml").write_text(text)
    (folder / "d").mkdir()
    (folder / "d" / "more.toml").write_text(more)
    return load(str(folder / "hostler.toml"), str(folder / "d"))


def test_the_limits(tmp_path: Path) -> None:
    more = '[claims]\nat_most = 8\nusers_profile = "none"\n'
    found = read(tmp_path, "[claims]\nusers_at_most = 0\n", more)
    assert found.claims == ClaimsPolicy(users_at_most=0, at_most=8, users_profile="none")
    assert Settings().claims == ClaimsPolicy(users_at_most=4, at_most=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[claims]\nusers_at_most = -1\n", "users_at_most cannot be -1"),
        ('[claims]\nat_most = "all"\n', "at_most"),
        ('[claims]\nusers_profile = "quiet"\n', "users_profile"),
        ("[claims]\nusers = 1\n", "users"),
        ("[host]\nusers_at_most = 1\n", "claims"),
        ('[host]\nlibvirt = ["qemu:///session"]\n', "is not supported"),
        ('[host]\nlibvirt = ["qemu:///session?socket=/x"]\n', "is not supported"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput) as wrong:
        read(tmp_path, text)
    assert words in wrong.value.sentence

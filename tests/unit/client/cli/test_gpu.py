"""`hostler gpu`: words to the request, and what is said of wrong ones."""

from typing import Any

import pytest

from hostler.errors import Refused

RESULT = {
    "domain": "win11",
    "changed": True,
    "before": "a",
    "after": "b",
    "diff": "--- x\n+++ y\n+z\n",
    "notes": [],
}


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ("win11 passthrough 01:00.0", {"way": "passthrough", "what": "01:00.0"}),
        (
            "win11 passthrough gaming --no-video --live",
            {"way": "passthrough", "what": "gaming", "video": False, "live": True},
        ),
        ("win11 slice mtty-1 --dry-run", {"way": "slice", "what": "mtty-1", "dry_run": True}),
        ("win11 emulated", {"way": "emulated"}),
        ("--dry-run win11 emulated --model=qxl", {"way": "emulated", "model": "qxl", "dry_run": True}),
        ("win11 undo", {"way": "undo"}),
    ],
)
def test_the_request(hostler: Any, daemon: Any, words: str, params: dict[str, object]) -> None:
    asked: list[dict[str, object]] = []
    daemon.answers["gpu"] = lambda given: asked.append(dict(given)) or RESULT
    ran = hostler("gpu", *words.split())
    assert ran.status == 0
    assert asked == [{"domain": "win11", **params}]
    assert ran.out.startswith("--- x\n+++ y\n+z\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("win11", "needs WAY"),
        ("win11 passthru x", "did you mean `passthrough`?"),
        ("win11 passthrough", "needs DEV"),
        ("win11 slice", "needs TYPE"),
        ("win11 emulated qxl", "one word too many"),
        ("win11 undo x", "one word too many"),
        ("win11 slice x --model qxl", "--model goes with emulated"),
        ("win11 emulated --no-video", "--no-video goes with"),
    ],
)
def test_wrong_words(hostler: Any, no_daemon: str, words: str, sentence: str) -> None:
    ran = hostler("gpu", *words.split())
    assert (ran.status, ran.out) == (2, "")
    assert sentence in ran.err


def test_a_refusal_is_4(hostler: Any, daemon: Any) -> None:
    daemon.answers["gpu"] = Refused("win11 runs", remedy="stop it first")
    ran = hostler("gpu", "win11", "emulated")
    assert ran.status == 4
    assert "win11 runs; stop it first" in ran.err


def test_json_is_the_answer(hostler: Any, daemon: Any) -> None:
    daemon.answers["gpu"] = RESULT
    assert hostler("gpu", "win11", "emulated", "--json").json == RESULT

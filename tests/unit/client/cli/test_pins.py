"""`hostler pins`: words to the request, and what is said of wrong ones."""

from typing import Any

import pytest

RESULT = {
    "domain": "win11",
    "changed": True,
    "before": "no pins of hostler's",
    "after": "vCPUs on 2,10",
    "diff": "--- x\n+++ y\n+z\n",
    "notes": [],
}


@pytest.mark.parametrize(
    ("words", "params", "end"),
    [
        ("win11", {}, "; `hostler pins win11 undo` takes it back"),
        ("win11 --dry-run", {"dry_run": True}, "vCPUs on 2,10"),
        ("win11 undo", {"undo": True}, "vCPUs on 2,10"),
        ("--dry-run win11 undo", {"undo": True, "dry_run": True}, "vCPUs on 2,10"),
    ],
)
def test_the_request(hostler: Any, daemon: Any, words: str, params: dict[str, object], end: str) -> None:
    asked: list[dict[str, object]] = []
    daemon.answers["pins"] = lambda given: asked.append(dict(given)) or RESULT
    ran = hostler("pins", *words.split())
    assert ran.status == 0
    assert asked == [{"domain": "win11", **params}]
    assert ran.out.startswith("--- x\n+++ y\n+z\n")
    assert ran.out.rstrip().endswith(end)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("", "needs DOMAIN"), ("win11 undoo", "did you mean `undo`?"), ("win11 undo x", "one word too many")],
)
def test_wrong_words(hostler: Any, no_daemon: str, words: str, sentence: str) -> None:
    ran = hostler("pins", *words.split())
    assert (ran.status, ran.out) == (2, "")
    assert sentence in ran.err

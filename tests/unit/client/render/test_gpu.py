"""An edit of a definition as a person reads it."""

from hostler.render import gpu
from hostler.render.text import Style

RESULT = {
    "domain": "win11",
    "changed": True,
    "before": "passthrough 0000:01:00.0",
    "after": "emulated",
    "diff": "--- win11 (now)\n+++ win11 (after)\n@@ -1 +1 @@\n-  <hostdev/>\n+  <video\x1b[2J/>\n   <x/>\n",
    "notes": ["0000:01:00.0 belongs to domain work; stop work first"],
}


def test_the_difference_and_a_sentence() -> None:
    text = gpu.render(RESULT)
    assert text.splitlines()[:4] == ["--- win11 (now)", "+++ win11 (after)", "@@ -1 +1 @@", "-  <hostdev/>"]
    assert "\x1b" not in text
    assert (
        "win11 was changed: passthrough 0000:01:00.0 -> emulated; `hostler gpu win11 undo` takes it back"
        in text
    )
    assert text.endswith("it would not start now: 0000:01:00.0 belongs to domain work; stop work first")


def test_a_dry_run_says_would() -> None:
    assert "win11 would be changed: " in gpu.render(RESULT, dry_run=True)


def test_what_was_taken_back_is_not_taken_back_again() -> None:
    lines = gpu.render(RESULT, is_undo=True).splitlines()
    assert "win11 was changed: passthrough 0000:01:00.0 -> emulated" in lines


def test_nothing_to_change() -> None:
    assert (
        gpu.render({"domain": "win11", "changed": False, "diff": ""})
        == "win11 is so already: nothing to change"
    )


def test_what_comes_is_green_and_what_goes_red() -> None:
    lines = gpu.render(RESULT, Style(color=True)).splitlines()
    assert lines[3] == "\033[31m-  <hostdev/>\033[0m"
    assert lines[4].startswith("\033[32m+  <video")
    assert lines[5] == "   <x/>"

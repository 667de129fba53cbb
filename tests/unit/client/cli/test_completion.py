"""Shell completion and the manual page know every verb and every option, and bash's completion does what it says."""

import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from hostler.cli import VERBS
from hostler.cli.arguments import GLOBALS, Spec

FOLDER = Path(__file__).parents[4] / "packaging" / "completion"
FILES = ("hostler.bash", "_hostler", "hostler.fish")


def spec_of(verb: str) -> Spec:
    spec: Spec = import_module(f"hostler.cli.{verb}").SPEC
    return spec


@pytest.mark.parametrize("name", FILES)
def test_every_verb_and_option_is_there(name: str) -> None:
    text = (FOLDER / name).read_text()
    options = {option.name for verb in VERBS for option in spec_of(verb).options}
    options |= {option.name for option in GLOBALS}
    words = set(text.replace("[", " ").replace("'", " ").replace(":", " ").replace('"', " ").split())
    if name.endswith(".fish"):
        options = {option.removeprefix("--") for option in options}
    assert (set(VERBS) | options) <= words


def test_the_manual_page_has_every_verb_and_option() -> None:
    text = (FOLDER.parent / "man" / "hostler.1").read_text().replace("\\-", "-").replace(",", " ").split()
    options = {option.name for verb in VERBS for option in spec_of(verb).options}
    assert set(VERBS) | options | {option.name for option in GLOBALS} <= set(text)


def complete(*words: str) -> list[str]:
    script = f"""
        compopt() {{ :; }}
        hostler() {{ echo 'NAME STATE'; echo 'win11 running'; echo 'debian off'; }}
        source '{FOLDER / "hostler.bash"}'
        COMP_WORDS=(hostler "$@") COMP_CWORD=$#
        _hostler
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["--json", "st"], ["status"]),
        (["--socket", "status", "wa"], ["watch"]),
        (["--v"], ["--version"]),
        (["plan", "--d"], ["--domain"]),
        (["plan", "--domain", "w"], ["win11"]),
        (["cpus", "--what-if", "d"], ["debian"]),
        (["domains", ""], ["win11", "debian"]),
        (["domains", "--x"], ["--xml"]),
        (["devices", "--"], ["--json", "--socket", "--help", "--all", "--root"]),
        (["help", "re"], ["reload", "retry"]),
        (["status", "x"], []),
    ],
)
def test_bash(words: list[str], found: list[str]) -> None:
    assert complete(*words) == found

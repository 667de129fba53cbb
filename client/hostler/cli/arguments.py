"""Words of a command line to options and words, by a verb's `SPEC`. Nothing is known of any verb here.

Rules: options may stand anywhere, `--name value` or `--name=value`; `--` ends them; abbreviations are not guessed. What
does not fit is `Usage`, which names what was wrong and the nearest word that would have been right.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Usage(Exception):
    """The command line makes no sense; exit status 2. Not of hostler.errors: it never leaves the command line."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.sentence = f"{message}; {remedy}"


class Option:
    """`value`: what stands for its value in the help, None for a flag; `many`: it takes all the words that follow."""

    __slots__ = ("help", "many", "name", "value")

    def __init__(self, name: str, help: str, *, value: str | None = None, many: bool = False) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.value = value
        self.many = many


class Spec:
    """A verb. `words`: its positional arguments, `NAME` or `[NAME]`, the last one perhaps `NAME...`.

    `verbatim`: options end at the first word, or at the first that is none of ours (arguments that others chose).
    """

    __slots__ = ("about", "options", "verb", "verbatim", "words")

    def __init__(
        self,
        verb: str,
        about: str,
        *,
        words: Sequence[str] = (),
        options: Sequence[Option] = (),
        verbatim: bool = False,
    ) -> None:
        self.verb = verb
        self.about = about
        self.words = words
        self.options = options
        self.verbatim = verbatim


class Arguments:
    """What was given: `words` and options."""

    __slots__ = ("_options", "words")

    def __init__(self) -> None:
        self._options: dict[str, list[str]] = {}
        self.words: list[str] = []

    def add(self, name: str, *values: str) -> None:
        self._options.setdefault(name, []).extend(values)

    def flag(self, name: str) -> bool:
        return name in self._options

    def value(self, name: str) -> str | None:
        """The last value given, None where there was none."""
        values = self._options.get(name)
        return values[-1] if values else None

    def values(self, name: str) -> list[str]:
        return self._options.get(name, [])

    def word(self, index: int) -> str | None:
        return self.words[index] if index < len(self.words) else None

    @property
    def json(self) -> bool:
        return self.flag("--json")

    @property
    def socket(self) -> str | None:
        return self.value("--socket")


GLOBALS = (
    Option("--json", "print JSON"),
    Option(
        "--socket",
        "the daemon's socket, instead of $HOSTLER_SOCKET or /run/hostler/hostler.sock",
        value="PATH",
    ),
    Option("--help", "print this"),
    Option("--version", "print the version"),
)
_MOST_LETTERS = 70
"""Of options that a usage line lists."""
_SHORT = {"-h": "--help", "-V": "--version"}


def split_globals(words: Sequence[str]) -> tuple[Arguments, list[str]]:
    """The options before the verb, and the verb with all that follows."""
    given = Arguments()
    left = list(words)
    while left and left[0].startswith("-") and left[0] != "-":
        _take_option(left, {option.name: option for option in GLOBALS}, given)
    return given, left


def parse(spec: Spec, words: Sequence[str], given: Arguments) -> Arguments:
    """Add the verb's own words to what was `given` before it. Raises Usage."""
    options = {option.name: option for option in (*spec.options, *GLOBALS)}
    left = list(words)
    while left:
        word = left[0]
        if word == "--":
            given.words += left[1:]
            break
        is_option = word.startswith("-") and word != "-"
        if spec.verbatim and not (is_option and _name_of(word) in options):
            given.words += left
            break
        if is_option:
            _take_option(left, options, given)
        else:
            given.words.append(left.pop(0))
    if not given.flag("--help"):
        _check_words(spec, given.words)
    return given


def _name_of(word: str) -> str:
    return _SHORT.get(word, word.partition("=")[0])


def _take_option(left: list[str], options: dict[str, Option], given: Arguments) -> None:
    """Take one option and its values off `left`."""
    word = left.pop(0)
    name, sign, value = _name_of(word), *word.partition("=")[1:]
    option = options.get(name)
    if option is None:
        raise Usage(f"there is no option `{name}` here", nearest(name, options) or "see --help")
    if option.value is None:
        if sign:
            raise Usage(f"the option `{name}` takes no value", f"write `{name}` alone")
        given.add(name)
    elif sign:
        given.add(name, value)
    else:
        values: list[str] = []
        while left and (option.many or not values) and (left[0] == "-" or not left[0].startswith("-")):
            values.append(left.pop(0))
        if not values:
            raise Usage(f"the option `{name}` needs a value", f"write `{name} {option.value}`")
        given.add(name, *values)


def _check_words(spec: Spec, words: Sequence[str]) -> None:
    needed = [word for word in spec.words if not word.startswith("[")]
    if len(words) < len(needed):
        raise Usage(f"`hostler {spec.verb}` needs {needed[len(words)].rstrip('.')}", f"write `{usage(spec)}`")
    endless = bool(spec.words) and spec.words[-1].strip("[]").endswith("...")
    if len(words) > len(spec.words) and not endless and not spec.verbatim:
        raise Usage(f"`{words[len(spec.words)]}` is one word too many", f"write `{usage(spec)}`")


def usage(spec: Spec) -> str:
    own = [
        f"[{option.name} {option.value}{'...' if option.many else ''}]"
        if option.value
        else f"[{option.name}]"
        for option in spec.options
    ]
    if sum(map(len, own)) > _MOST_LETTERS:
        own = ["[OPTIONS]"]
    parts = [*own, *spec.words] if spec.verbatim else [*spec.words, *own]
    return " ".join(["hostler", spec.verb, *parts])


def describe(spec: Spec) -> str:
    """The help of one verb."""
    options = [option for option in (*spec.options, *GLOBALS) if option.name != "--version"]
    return "\n".join([f"usage: {usage(spec)}", "", spec.about.strip(), "", *describe_options(options)])


def describe_options(options: Iterable[Option]) -> list[str]:
    rows = [(f"{o.name} {o.value}{'...' if o.many else ''}" if o.value else o.name, o.help) for o in options]
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]


def nearest(word: str, words: Iterable[str]) -> str | None:
    """`did you mean ...?`, or None where nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only after a mistake: it imports re

    found = get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"did you mean `{found[0]}`?" if found else None

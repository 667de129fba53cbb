"""The one table of errors, and their way over the wire and back."""

import pytest

from hostler.errors import TABLE, HostlerError, Internal, exit_status, from_wire, to_wire


def below(kind: type[HostlerError]) -> set[type[HostlerError]]:
    return {kind}.union(*map(below, kind.__subclasses__()))


def test_every_error_is_in_the_table() -> None:
    """to_wire of one that is not would fail in the daemon, outside its barrier."""
    assert below(HostlerError) - {HostlerError} == set(TABLE)


@pytest.mark.parametrize("kind", TABLE)
def test_errors_survive_the_wire(kind: type[HostlerError]) -> None:
    there = kind("what", remedy="do", data={"a": 1})
    back = from_wire(to_wire(there))
    assert (type(back), back.message, back.remedy, back.data) == (kind, "what", "do", {"a": 1})
    assert exit_status(back) == exit_status(there)


def test_errors_of_a_newer_daemon_are_internal() -> None:
    error = from_wire({"name": "org.hostler1.Error.Novel", "message": "m"})
    assert isinstance(error, Internal)
    assert error.sentence == "m"


@pytest.mark.parametrize("answer", [{}, {"name": 5, "message": None, "data": []}])
def test_what_is_hardly_an_error_is_one(answer: dict[str, object]) -> None:
    assert isinstance(from_wire(answer), Internal)

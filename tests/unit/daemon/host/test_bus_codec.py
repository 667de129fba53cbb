"""Messages through either library, and what importing them must not bring along."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlerd.host.bus.codec import LIBRARIES, Codec, Unreadable
from hostlerd.host.bus.values import Kind, Message, Variant

CALL = Message(
    kind=Kind.CALL,
    serial=7,
    sender="",
    destination="org.example.A",
    path="/a/b",
    interface="org.example.I",
    member="M",
    signature="sa{sv}a(us)ayd",
    body=("x", {"k": Variant("ai", [1, -2]), "s": Variant("s", "v")}, [(1, "one")], b"\x01\x00", 1.5),
)
BARE = ("x", {"k": [1, -2], "s": "v"}, [[1, "one"]], b"\x01\x00", 1.5)
LOADED = [Codec(name) for name in LIBRARIES if name == "dbus_next" or Codec().library == name]


def test_a_call_comes_back_with_bare_values(codec: Codec) -> None:
    back = codec.decode(codec.encode(CALL))
    assert back.body == BARE
    assert (back.kind, back.serial, back.destination) == (Kind.CALL, 7, "org.example.A")
    assert (back.path, back.interface, back.member) == ("/a/b", "org.example.I", "M")
    assert (back.signature, back.quiet, back.interactive) == (CALL.signature, False, False)


@pytest.mark.parametrize(("quiet", "interactive"), [(True, False), (False, True), (True, True)])
def test_flags_come_back(codec: Codec, quiet: bool, interactive: bool) -> None:
    call = Message(kind=Kind.CALL, serial=1, path="/", member="M", quiet=quiet, interactive=interactive)
    back = codec.decode(codec.encode(call))
    assert (back.quiet, back.interactive) == (quiet, interactive)


def test_both_libraries_write_the_same_bytes() -> None:
    first, *others = [codec.encode(CALL) for codec in LOADED]
    assert all(other == first for other in others)


@pytest.mark.parametrize("codec", LOADED, ids=lambda codec: codec.library)
@settings(deadline=None)
@given(text=st.text(st.characters(codec=None)))
def test_any_text_is_sent_as_text_that_the_bus_takes(codec: Codec, text: str) -> None:
    message = Message(kind=Kind.ERROR, serial=1, reply_to=1, error="a.B", signature="s", body=(text,))
    (back,) = codec.decode(codec.encode(message)).body
    assert "\0" not in back
    back.encode()
    if "\0" not in text and text.isascii():
        assert back == text


@pytest.mark.parametrize("codec", LOADED, ids=lambda codec: codec.library)
@settings(max_examples=300, deadline=None)
@given(noise=st.data())
def test_bytes_that_are_no_message_are_unreadable_and_nothing_else(
    codec: Codec, noise: st.DataObject
) -> None:
    data = bytearray(codec.encode(CALL))
    for _ in range(noise.draw(st.integers(1, 4))):
        data[noise.draw(st.integers(0, len(data) - 1))] = noise.draw(st.integers(0, 255))
    with contextlib.suppress(Unreadable):
        codec.decode(bytes(data[: noise.draw(st.integers(16, len(data)))]))


def test_signatures_of_callers_are_not_kept_for_ever() -> None:
    codec = Codec("dbus_next")
    kept = codec._signatures
    for number in range(3000):
        signature = "".join("yi"[int(bit)] for bit in f"{number:b}")
        body = tuple(1 for _ in signature)
        codec.decode(
            codec.encode(
                Message(kind=Kind.CALL, serial=1, path="/", member="M", signature=signature, body=body)
            )
        )
    assert len(kept) < 1100


@pytest.mark.parametrize("library", [codec.library for codec in LOADED])
def test_the_library_is_loaded_without_asyncio_and_without_what_newer_pythons_lack(library: str) -> None:
    program = f"""
import sys, typing
del typing.no_type_check_decorator
from hostlerd.host.bus import Bus, Codec
codec = Codec({library!r})
Bus("unix:path=/nonexistent", codec=codec)
assert codec.library == {library!r}
unwanted = {{"asyncio", "gi", {library!r}}} & set(sys.modules)
assert not unwanted, unwanted
"""
    root = Path(__file__).parents[4]
    env = {**os.environ, "PYTHONPATH": f"{root}/daemon:{root}/client"}
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=env, timeout=60)


def test_a_library_that_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ImportError):
        Codec("dbus_never")

"""The tree of objects, whatever is published and whatever is asked: every answer can be sent, or is a refusal."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.daemon.api.published import (
    CARD,
    DEVICE_JSON,
    DOMAIN_JSON,
    GUEST,
    PUBLISHED,
    ROOT,
    STATUS_JSON,
    UUID,
)

from hostlerd.api import Published
from hostlerd.api.bus import DEVICE, DOMAIN, MANAGER, object_path, tree
from hostlerd.api.interfaces import load
from hostlerd.api.objects import Objects
from hostlerd.host.bus import PROPERTIES, CallFailed, Codec, Kind, Message, Reply

OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"


def like(example: Any) -> st.SearchStrategy[Any]:
    """JSON of the shape of `example`, where members are missing or null and text is anything."""
    if isinstance(example, dict):
        members = {key: st.none() | like(value) for key, value in example.items()}
        return st.fixed_dictionaries({}, optional=members)
    if isinstance(example, list):
        return st.lists(like(example[0]), max_size=2) if example else st.just([])
    if isinstance(example, bool):
        return st.booleans()
    if isinstance(example, int):
        return st.integers(0, 1000)
    return st.text(st.characters(codec=None))


CODEC = Codec()


@settings(deadline=None)
@given(
    published=st.builds(
        Published,
        status=like(STATUS_JSON),
        devices=st.lists(like(DEVICE_JSON)).map(tuple),
        domains=st.lists(like(DOMAIN_JSON)).map(tuple),
    )
)
def test_whatever_is_published_can_be_sent(published: Published) -> None:
    sent: list[bytes] = []

    def emit(path: str, interface_name: str, member: str, signature: str, *body: Any) -> None:
        signal = Message(
            kind=Kind.SIGNAL,
            path=path,
            interface=interface_name,
            member=member,
            signature=signature,
            body=body,
        )
        sent.append(CODEC.encode(signal))

    async def perform(call: Message, parameters: tuple[str, ...]) -> Reply:
        raise NotImplementedError

    objects = Objects(ROOT, {name: load(name) for name in (MANAGER, DEVICE, DOMAIN)}, emit, perform)
    for values in (tree(Published()), tree(published), tree(PUBLISHED), tree(published)):
        objects.show(values)
        for path in values:
            call = Message(
                kind=Kind.CALL, path=path, interface=PROPERTIES, member="GetAll", signature="s", body=("",)
            )
            reply = objects.answer(call)
            assert isinstance(reply, Reply)
            CODEC.encode(Message(kind=Kind.RETURN, reply_to=1, signature=reply.signature, body=reply.body))


@settings(deadline=None)
@given(
    path=st.sampled_from(["/", "/org", ROOT, ROOT + "/device", CARD, GUEST, "/x"]),
    interface_name=st.sampled_from(
        ["", PROPERTIES, OBJECT_MANAGER, MANAGER, DEVICE, "org.freedesktop.DBus.Peer"]
    ),
    member=st.sampled_from(
        ["Get", "GetAll", "Set", "Introspect", "GetManagedObjects", "Ping", "Status", "x"]
    ),
    body=st.sampled_from(
        [("", ()), ("s", ("",)), ("ss", ("", "x")), ("ss", (DEVICE, "Name")), ("ssv", (DEVICE, "Name", 1))]
    ),
)
def test_whatever_is_asked_is_answered_or_refused(
    path: str, interface_name: str, member: str, body: tuple[str, tuple[Any, ...]]
) -> None:
    async def perform(call: Message, parameters: tuple[str, ...]) -> Reply:
        raise NotImplementedError

    objects = Objects(
        ROOT, {name: load(name) for name in (MANAGER, DEVICE, DOMAIN)}, lambda *_: None, perform
    )
    objects.show(tree(PUBLISHED))
    call = Message(
        kind=Kind.CALL, path=path, interface=interface_name, member=member, signature=body[0], body=body[1]
    )
    try:
        reply = objects.answer(call)
    except CallFailed:
        return
    if not isinstance(reply, Reply):
        reply.close()  # type: ignore[attr-defined]


def test_paths_of_children_are_compared_by_element() -> None:
    values: dict[str, Any] = {ROOT: {}, "/org/hostler11/x": {}}
    objects = Objects(ROOT, {}, lambda *_: None, lambda *_: None)  # type: ignore[arg-type,return-value]
    objects.show(values)
    assert objects._children(ROOT) == []
    assert objects._children("/org") == ["hostler1", "hostler11"]
    assert objects._children("/") == ["org"]


def test_names_become_paths() -> None:
    assert object_path("device", "0000:01:00.0") == CARD
    assert object_path("domain", UUID) == GUEST

"""Who may do what: the table against the contract, root without polkit, a fake polkit, and a real one."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from hostler.errors import BadInput, HostlerError, NotAuthorised, TimedOut
from hostler.wire import CHANGE_METHODS, READ_METHODS, SIMULATE_METHOD
from hostlerd.api import Peer, authorize
from hostlerd.api.authorize import ACTIONS, FREE, Authorizer
from hostlerd.api.bus import METHODS
from hostlerd.api.interfaces import load
from hostlerd.host.bus import BUS, BUS_PATH, Bus, CallFailed, Codec, Kind, Message, Reply
from hostlerd.host.bus.connection import addresses
from hostlerd.host.bus.framing import Framer

POLICY = Path(__file__).parents[4] / "dbus" / "org.hostler1.policy"
POLKITD = "/usr/lib/polkit-1/polkitd"
NOBODY = 65534
STRANGER = Peer(uid=NOBODY, pid=4242, start_time=99)
SOON = 10.0


# -- the table --------------------------------------------------------------------------------------------------------


def test_every_method_has_an_action_and_only_reading_is_free() -> None:
    assert set(ACTIONS) == {*READ_METHODS, *CHANGE_METHODS}
    assert {method for method, action in ACTIONS.items() if action in FREE} == set(READ_METHODS)
    assert {METHODS[name][0] for name in load("org.hostler1.Manager").methods} <= set(ACTIONS)


def test_every_action_is_in_the_policy_file() -> None:
    policy = POLICY.read_text()
    assert all(f'<action id="{action}">' in policy for action in ACTIONS.values())


@pytest.mark.parametrize("method", READ_METHODS)
async def test_reading_is_free_to_everybody_without_a_bus(method: str) -> None:
    await Authorizer(None).check(STRANGER, method)
    await Authorizer(None).check(Peer(bus_name=":1.1"), method)


@pytest.mark.parametrize("method", CHANGE_METHODS)
async def test_changing_is_roots_and_the_daemons_users_without_a_bus(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    authorizer = Authorizer(None)
    await authorizer.check(Peer(uid=0), method)
    await authorizer.check(Peer(uid=1000), method)
    for peer in (STRANGER, Peer(), Peer(bus_name=":1.1")):
        with pytest.raises(NotAuthorised) as denied:
            await authorizer.check(peer, method)
        assert denied.value.data == {"action": ACTIONS[method]}
        assert denied.value.remedy == "run it as root"


@pytest.mark.parametrize("method", ["", "simulate", "Status", "x" * 100])
async def test_what_is_not_in_the_table_does_not_exist(method: str) -> None:
    with pytest.raises(BadInput):
        await Authorizer(None).check(Peer(uid=0), method)


async def test_simulating_is_for_a_simulated_daemon() -> None:
    await Authorizer(None, simulated=True).check(Peer(uid=os.geteuid()), SIMULATE_METHOD)
    with pytest.raises(NotAuthorised):
        await Authorizer(None, simulated=True).check(STRANGER, SIMULATE_METHOD)


# -- a fake polkit ----------------------------------------------------------------------------------------------------


class FakePolkit:
    """Answers CheckAuthorization with `answer`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.cancelled: list[str] = []
        self.answer: tuple[bool, bool, dict[str, str]] | CallFailed | None = (True, False, {})

    def handle(self, call: Message) -> Any:
        if call.member == "CancelCheckAuthorization":
            self.cancelled.append(call.body[0])
            return Reply()
        assert (call.member, call.signature) == ("CheckAuthorization", "(sa{sv})sa{ss}us")
        self.asked.append(call.body)
        if isinstance(self.answer, CallFailed):
            raise self.answer
        return self._wait() if self.answer is None else Reply("(bba{ss})", (self.answer,))

    async def _wait(self) -> Reply:
        await trio.sleep_forever()
        raise AssertionError


@asynccontextmanager
async def polkit_on(
    address: str, codec: Codec, fake: FakePolkit | None
) -> AsyncIterator[tuple[Bus, Authorizer]]:
    async with trio.open_nursery() as nursery:
        server, client = Bus(address, codec=codec), Bus(address, codec=codec)
        if fake is not None:
            server.serve("org.freedesktop.PolicyKit1", fake.handle)
        await nursery.start(server.run)
        await nursery.start(client.run)
        yield client, Authorizer(client)
        nursery.cancel_scope.cancel()


async def test_polkit_is_asked_about_a_process(private_bus: Any, codec: Codec) -> None:
    fake = FakePolkit()
    async with polkit_on(private_bus.address, codec, fake) as (_, authorizer):
        await authorizer.check(STRANGER, "reload")
        fake.answer = (False, False, {})
        with pytest.raises(NotAuthorised) as denied:
            await authorizer.check(STRANGER, "prepare")
    (subject, action, details, flags, check), second = fake.asked
    assert subject == ["unix-process", {"pid": 4242, "start-time": 99, "uid": NOBODY}]
    assert (action, details, flags) == ("org.hostler1.change-policy", {}, 0)
    assert second[1] == "org.hostler1.handoff"
    assert check != second[4]
    assert denied.value.sentence == (
        "prepare needs the right org.hostler1.handoff, which polkit does not give you; run it as root"
    )


async def test_a_pidfd_goes_along(private_bus: Any, codec: Codec) -> None:
    fake = FakePolkit()
    process = await trio.lowlevel.open_process(["sleep", "60"])
    pidfd = os.pidfd_open(process.pid)
    try:
        async with polkit_on(private_bus.address, codec, fake) as (_, authorizer):
            await authorizer.check(Peer(uid=NOBODY, pid=process.pid, start_time=99, pidfd=pidfd), "retry")
        assert os.fstat(pidfd)
    finally:
        os.close(pidfd)
        process.kill()
        await process.wait()
    assert fake.asked[0][0] == [
        "unix-process",
        {"pid": process.pid, "start-time": 99, "uid": NOBODY, "pidfd": 0},
    ]


async def test_polkit_is_asked_about_a_bus_name_and_may_ask_the_user(private_bus: Any, codec: Codec) -> None:
    fake = FakePolkit()
    async with polkit_on(private_bus.address, codec, fake) as (client, authorizer):
        await authorizer.check(Peer(bus_name=client.unique_name), "retry")
        assert fake.asked == []  # we are the daemon's user ourselves
        authorizer._trusted = frozenset()
        await authorizer.check(Peer(bus_name=client.unique_name), "retry")
        await authorizer.check(Peer(bus_name=client.unique_name, interactive=True), "retry")
        assert [(subject, flags) for subject, _, _, flags, _ in fake.asked] == [
            (["system-bus-name", {"name": client.unique_name}], 0),
            (["system-bus-name", {"name": client.unique_name}], 1),
        ]
        with pytest.raises(NotAuthorised, match="does not know who calls"):
            await authorizer.check(Peer(bus_name=":1.999"), "retry")


async def test_a_process_that_is_not_known_for_certain_is_denied(private_bus: Any, codec: Codec) -> None:
    fake = FakePolkit()
    async with polkit_on(private_bus.address, codec, fake) as (_, authorizer):
        for peer in (Peer(uid=NOBODY), Peer(uid=NOBODY, pid=1), Peer(pid=1, start_time=1), Peer()):
            with pytest.raises(NotAuthorised, match="for certain"):
                await authorizer.check(peer, "retry")
    assert fake.asked == []


async def test_a_challenge_tells_of_the_agent(private_bus: Any, codec: Codec) -> None:
    fake = FakePolkit()
    fake.answer = (False, True, {})
    async with polkit_on(private_bus.address, codec, fake) as (_, authorizer):
        with pytest.raises(NotAuthorised) as denied:
            await authorizer.check(STRANGER, "retry")
    assert denied.value.remedy == "run it as root, or where a polkit agent can ask for a password"


@pytest.mark.parametrize("answer", ["absent", "broken", "bus away"])
async def test_no_polkit_is_no_and_says_so(private_bus: Any, codec: Codec, answer: str) -> None:
    fake = FakePolkit()
    fake.answer = CallFailed("org.freedesktop.PolicyKit1.Error.Failed", "Action x is not registered")
    async with polkit_on(private_bus.address, codec, None if answer == "absent" else fake) as (
        client,
        authorizer,
    ):
        if answer == "bus away":
            await trio.to_thread.run_sync(private_bus.stop)
            with trio.fail_after(SOON):
                while client.connected:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        with pytest.raises(NotAuthorised) as denied:
            await authorizer.check(STRANGER, "retry")
        await authorizer.check(Peer(uid=0), "retry")
    words = {
        "absent": "polkit, which would decide, is not there",
        "broken": "Action x is not registered",
        "bus away": "without the bus polkit cannot be asked",
    }
    assert words[answer] in denied.value.message
    assert denied.value.data == {"action": "org.hostler1.handoff"}


async def test_a_question_nobody_answers_is_taken_back(
    private_bus: Any, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePolkit()
    fake.answer = None
    async with polkit_on(private_bus.address, codec, fake) as (_, authorizer):
        monkeypatch.setattr(authorize, "LIMIT", 0.05)
        with pytest.raises(TimedOut):
            await authorizer.check(STRANGER, "retry")
        monkeypatch.setattr(authorize, "LIMIT", 60.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(authorizer.check, STRANGER, "retry")
            with trio.fail_after(SOON):
                while len(fake.asked) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        with trio.fail_after(SOON):
            while len(fake.cancelled) < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert fake.cancelled == [asked[4] for asked in fake.asked]


# -- the real polkit --------------------------------------------------------------------------------------------------


@pytest.fixture
def polkitd(private_bus: Any) -> Iterator[None]:
    """polkitd on the private bus, with our policy file as all it knows, in a mount namespace of its own."""
    missing = [
        what
        for what, there in {
            f"{POLKITD} (package polkitd)": os.path.exists(POLKITD),
            "unshare (package util-linux)": shutil.which("unshare") is not None,
            "root": os.geteuid() == 0,
        }.items()
        if not there
    ]
    if missing:
        pytest.skip(f"the real polkit needs {', '.join(missing)}")
    actions = private_bus.folder / "actions"
    actions.mkdir(mode=0o755)
    shutil.copy(POLICY, actions)
    script = f"mount --bind {actions} /usr/share/polkit-1/actions && exec {POLKITD} --no-debug"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", script],
        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": private_bus.address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    process.kill()
    process.wait()


CALLER = """
import os, socket, sys
bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1])
bus.sendall(b"\\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\\r\\n")
assert bus.recv(4096).startswith(b"OK ")
bus.sendall(b"BEGIN\\r\\n" + bytes.fromhex(sys.argv[2]))
print(bus.recv(4096).hex(), flush=True)
sys.stdin.read()
"""
"""A client of the bus that any user can run: nothing but the system's Python, no file of this checkout."""


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.mark.usefixtures("polkitd")
@pytest.mark.parametrize("user", [0, NOBODY])
async def test_the_real_polkit_decides(private_bus: Any, codec: Codec, user: int) -> None:
    """Root is allowed because polkit says so, as an ordinary user is not: nobody is trusted here without asking."""
    hello = codec.encode(
        Message(kind=Kind.CALL, serial=1, destination=BUS, path=BUS_PATH, interface=BUS, member="Hello")
    )
    (path,) = addresses(private_bus.address)
    caller = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        ["/usr/bin/python3", "-I", "-c", CALLER, path, hello.hex()],
        user=user,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert caller.stdout is not None
        answer = bytes.fromhex(await trio.to_thread.run_sync(caller.stdout.readline))
        (name,) = codec.decode(Framer().feed(answer)[0]).body
        pidfd = os.pidfd_open(caller.pid)
        started = start_time(caller.pid)
        peers = {
            "bus": Peer(bus_name=name),
            "socket": Peer(uid=user, pid=caller.pid, start_time=started),
            "socket with a pidfd": Peer(uid=user, pid=caller.pid, start_time=started, pidfd=pidfd),
        }
        async with polkit_on(private_bus.address, codec, None) as (bus, authorizer):
            authorizer._trusted = frozenset()
            with trio.fail_after(SOON):
                while True:
                    try:
                        await bus.call("org.freedesktop.PolicyKit1", "/", "org.freedesktop.DBus.Peer", "Ping")
                        break
                    except CallFailed:
                        await trio.sleep(0.05)
            outcomes = {}
            for way, peer in peers.items():
                for method in ("reload", "retry"):
                    try:
                        await authorizer.check(peer, method)
                        outcomes[way, method] = "allowed"
                    except HostlerError as error:
                        outcomes[way, method] = error.sentence
        os.close(pidfd)
    finally:
        caller.communicate()
    for (_, method), outcome in outcomes.items():
        if user == 0:
            assert outcome == "allowed"
        else:
            assert f"{method} needs the right org.hostler1." in outcome
            assert "which polkit does not give you; run it as root, or where a polkit agent" in outcome

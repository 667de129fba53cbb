"""Policy files: every key, every way to get one wrong, and what is said then."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hostler.errors import BadInput
from hostlerd.model.devices import Function
from hostlerd.model.settings import (
    DevicePolicy,
    DomainPolicy,
    Housekeeping,
    HugepagesPolicy,
    Match,
    Settings,
    UsbMatch,
    UsbPolicy,
)
from hostlerd.settings import load

UUID = "6f0c0e5c-9f0e-4f52-9d3f-0a5ad8a4b6d1"


class Policy:
    """/etc/hostler in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.file = root / "hostler.toml"
        self.directory = root / "hostler.d"
        self.directory.mkdir()

    def load(self, text: str | None = None, **drop_ins: str) -> Settings:
        if text is not None:
            self.file.write_text(text)
        for name, content in drop_ins.items():
            (self.directory / f"{name}.toml").write_text(content)
        return load(str(self.file), str(self.directory))

    def complaint(self, text: str) -> BadInput:
        with pytest.raises(BadInput) as caught:
            self.load(text)
        assert caught.value.data["file"] == str(self.file)
        return caught.value


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return Policy(tmp_path)


def test_without_any_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none.toml"), str(tmp_path / "none.d")) == Settings()


def test_every_key(policy: Policy) -> None:
    settings = policy.load(f"""
[host]
libvirt = ["qemu:///system", "qemu+unix:///system?socket=/run/other"]
housekeeping = {{ cpus = "0-1,8", at_least = 3 }}
suspend = "allow"

[domains]
cpus = "shared"
prefer = "vcache"
profile = "latency"
rebalance = false
write_config = true
fallback = "emulated"
fallback_model = "bochs"

[domain."win11"]
cpus = "dedicated"

[domain."{UUID.upper()}"]
profile = "realtime"
rebalance = true
write_config = false

[[device]]
name = "gaming"
match = {{ address = "01:00.0" }}
when_idle = "vfio"
group = ["0000:01:00.2", "01:00.3"]
holders = "terminate"
holder_limit = 3
units = ["display-manager.service", "nvidia-powerd.service"]
companions = "none"
driver = "nouveau"
leave = "unload"
power = "keep"

[[device]]
match = {{ vendor = 0x1002, device = "744C", subsystem = "1043:4e5", slot = "3" }}

[[device]]
name = "by other names"
match = {{ serial = "x", path = "pci-0000:0b:00.0" }}
""")
    assert settings == Settings(
        libvirt=("qemu:///system", "qemu+unix:///system?socket=/run/other"),
        housekeeping=Housekeeping(cpus=frozenset({0, 1, 8}), at_least=3),
        suspend="allow",
        domains=DomainPolicy(
            cpus="shared",
            prefer="vcache",
            profile="latency",
            rebalance=False,
            write_config=True,
            fallback="emulated",
            fallback_model="bochs",
        ),
        overrides={
            "win11": DomainPolicy(
                cpus="dedicated",
                prefer="vcache",
                profile="latency",
                rebalance=False,
                write_config=True,
                fallback="emulated",
                fallback_model="bochs",
            ),
            UUID: DomainPolicy(
                cpus="shared",
                prefer="vcache",
                profile="realtime",
                rebalance=True,
                fallback="emulated",
                fallback_model="bochs",
            ),
        },
        stated={
            "win11": frozenset({"cpus"}),
            UUID: frozenset({"profile", "rebalance", "write_config"}),
        },
        devices=(
            DevicePolicy(
                name="gaming",
                match=Match(address="0000:01:00.0"),
                when_idle="vfio",
                group=("0000:01:00.2", "0000:01:00.3"),
                holders="terminate",
                holder_limit=3.0,
                units=("display-manager.service", "nvidia-powerd.service"),
                companions="none",
                driver="nouveau",
                leave="unload",
                power="keep",
            ),
            DevicePolicy(
                name="device 2",
                match=Match(vendor=0x1002, device=0x744C, subsystem=0x104304E5, slot="3"),
            ),
            DevicePolicy(name="by other names", match=Match(serial="x", path="pci-0000:0b:00.0")),
        ),
    )


@pytest.mark.parametrize("vendor", ['"1002"', '"0x1002"', "0x1002", "4098"])
def test_a_pci_id_is_a_number_or_the_text_that_lspci_shows(policy: Policy, vendor: str) -> None:
    settings = policy.load(f"[[device]]\nmatch = {{ vendor = {vendor} }}")
    assert settings.devices[0].match == Match(vendor=0x1002)


@pytest.mark.parametrize("subsystem", ['"04e5"', '"0x104304e5"', '"1043:04e5"', "0x104304e5"])
def test_a_subsystem_is_one_number_or_two(policy: Policy, subsystem: str) -> None:
    settings = policy.load(f"[[device]]\nmatch = {{ subsystem = {subsystem} }}")
    assert settings.devices[0].match.subsystem in (0x4E5, 0x104304E5)


@pytest.mark.parametrize(
    "path",
    [
        "0000:00/01.0/00.0",
        "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0",
        "pci0000:00/0000:00:01.0/0000:01:00.0",
        "pci-0000:01:00.0",
    ],
)
def test_a_path_over_the_slots_or_as_udev_and_sysfs_write_it(policy: Policy, path: str) -> None:
    match = policy.load(f'[[device]]\nmatch.path = "{path}"').devices[0].match
    card = Function(address="0000:01:00.0", vendor=1, device=1, class_code=0, path="0000:00/01.0/00.0")
    assert match.matches(card)
    assert not match.matches(replace(card, address="0000:02:00.0", path="0000:00/02.0/00.0"))


def test_drop_ins_override_key_by_key_in_the_order_of_their_names(policy: Policy) -> None:
    settings = policy.load(
        '[host]\nhousekeeping.at_least = 4\n[domain.a]\nprofile = "none"\n[[device]]\nmatch.slot = "1"',
        b='[domains]\ncpus = "off"\n[domain.a]\nprefer = "vcache"',
        a='[host]\nhousekeeping.cpus = "0"\n[domains]\ncpus = "shared"\n[[device]]\nmatch.slot = "2"',
    )
    assert settings.housekeeping == Housekeeping(cpus=frozenset({0}), at_least=4)
    assert settings.domains.cpus == "off"
    assert settings.overrides == {"a": DomainPolicy(cpus="off", prefer="vcache", profile="none")}
    assert [device.match.slot for device in settings.devices] == ["1", "2"]
    assert [device.name for device in settings.devices] == ["device 1", "device 2"]


def test_isolation_adds_up_word_by_word(policy: Policy) -> None:
    settings = policy.load(
        "[domains]\nisolation = { kthreads = true, ksm = 0 }\n"
        '[domain.a]\nisolation.ksm = "keep"\n[domain.b]\nprofile = "none"',
        a='[domain.a]\nisolation.governor = "powersave"',
    )
    mine, other = settings.overrides["a"].isolates, settings.overrides["b"].isolates
    assert (mine.kthreads, mine.ksm, mine.governor, mine.slices) == (True, -1, "powersave", True)
    assert (other.kthreads, other.ksm, other.governor, other.slices) == (True, 0, "keep", False)


def test_only_visible_toml_files_are_drop_ins(policy: Policy) -> None:
    (policy.directory / "README").write_text("not [ TOML")
    (policy.directory / ".hidden.toml").write_text("not [ TOML")
    (policy.directory / "old.toml.bak").write_text("not [ TOML")
    assert policy.load() == Settings()


WRONG = [
    ('[[device]]\nmatch.slot = "1"\nholder_limit = 60', 3, "holder_limit is 60 seconds", "no more than 12"),
    ('[[device]]\nmatch.slot = "1"\nunits = ["sddm"]', 3, '"sddm" is no unit of systemd', ""),
    ('[[device]]\nmatch.slot = "1"\ndriver = "a/b"', 3, '"a/b" is no driver', ""),
    ('[[device]]\nmatch.slot = "1"\nleave = "rmmod"', 3, "leave", "unload"),
    ("[hosts]\n", 1, 'unknown key "hosts" at the top level', 'did you mean "host"?'),
    ('\n[[device]]\nwhen_idel = "vfio"', 3, 'unknown key "when_idel" in [[device]]', '"when_idle"'),
    ("[host]\nhousekeeping = { at-least = 2 }", 2, 'unknown key "at-least"', '"at_least"'),
    (
        '[[device]]\naddress = "01:00.0"',
        2,
        'unknown key "address" in [[device]]',
        "in the match of a [[device]]",
    ),
    ('[host]\nsuspend = "never"', 2, 'suspend cannot be "never"', "block"),
    ('suspend = "allow"', 1, 'unknown key "suspend" at the top level', "it belongs in [host]"),
    ("at_least = 2", 1, 'unknown key "at_least" at the top level', "it belongs in [host.housekeeping]"),
    ('[host]\ncpus = "0"', 2, 'unknown key "cpus" in [host]', "[domains]"),
    ("[domains]\nxyzzy = 1", 2, 'unknown key "xyzzy" in [domains]', "known here: cpus, prefer"),
    ('[domain."win11"]\ncpu = "off"', 2, 'unknown key "cpu" in [domain.win11]', '"cpus"'),
    ('[domains]\ncpus = "dedicate"', 2, 'cpus cannot be "dedicate"', "auto, dedicated, shared, off"),
    ("[domains]\ncpus = 3", 2, "cpus is a whole number, not text in quotes", ""),
    ('[domains]\nrebalance = "no"', 2, "rebalance is text in quotes, not true or false", ""),
    ("[host]\nhousekeeping.at_least = true", 2, "at_least is true or false, not a whole number", ""),
    ("[host]\nhousekeeping.at_least = 0", 2, "at_least cannot be 0", "the host itself needs"),
    ('[host]\nhousekeeping.cpus = "0-"', 2, "cpus: '0-' is not a CPU", ""),
    ('[host]\nhousekeeping = "0-1"', 2, "housekeeping is text in quotes, not a table", ""),
    ('[host]\nlibvirt = "qemu:///system"', 2, "libvirt is text in quotes, not a list", ""),
    ('[host]\nlibvirt = [\n  "qemu:///system",\n  "qemu"]', 4, '"qemu" is not a libvirt URI', ""),
    ('[host]\nlibvirt = ["qemu+ssh://other/system"]', 2, "on another host", ""),
    ('[host]\nlibvirt = ["a:///b", "a:///b"]', 2, 'names "a:///b" twice', ""),
    ("[domains]\nisolation = { rpc = true }", 2, 'unknown key "rpc"', '"rps"'),
    ("[domains]\nisolation = { ksm = 3 }", 2, "ksm cannot be 3", '0 to 2, or "keep"'),
    ('[domains]\nisolation = { governor = "no such" }', 2, '"no such" is no word', ""),
    ('[domains]\nisolation = { partition = "yes" }', 2, 'partition cannot be "yes"', "isolated"),
    ("[domains]\ngovernor = true", 2, 'unknown key "governor"', "isolation = { ... }"),
    ("[host]\nlibvirt = []", 2, "libvirt names no URI", "qemu:///system"),
    ('[[device]]\nmatch.path = "gpu"', 2, '"gpu" is no way to a PCI device', ""),
    ('[[device]]\nmatch.path = "/sys/devices/pci0000:00"', 2, "is no way to a PCI device", ""),
    ("[host]\nlibvirt = [1]", 2, "libvirt is a whole number, not text", ""),
    ('[device]\nname = "x"', 1, "device is a table, not a list of tables", "[[device]]"),
    ("device = [{ match.slot = '1' }, 1]", 1, "device holds a whole number, not tables", "[[device]]"),
    ("device = 1979-05-27", 1, "device is a date or time", "[[device]]"),
    ('\n[[device]]\nname = "x"', 2, "has no match", "match = {"),
    ("[[device]]\nmatch = {}", 2, "match says nothing", "address, vendor"),
    ('[[device]]\nmatch = { address = "01:00" }', 2, "address: '01:00' is not a PCI address", ""),
    ('[[device]]\nmatch = { vendor = "amd" }', 2, 'vendor: "amd" is not a PCI ID', ""),
    ("[[device]]\nmatch = { vendor = 0x10000 }", 2, "vendor 0x10000 does not fit in 16 bits", ""),
    ("[[device]]\nmatch = { vendor = -1 }", 2, "vendor -0x1 does not fit", ""),
    ("[[device]]\nmatch = { device = 1 }", 2, "device without a vendor", "add vendor"),
    ('[[device]]\nmatch = { slot = " " }', 2, "slot: cannot be empty", ""),
    ('[[device]]\nmatch.slot = "1"\ngroup = ["1:2"]', 3, "group: '1:2' is not a PCI address", ""),
    (
        '[[device]]\nname = "a"\nmatch.slot = "1"\n[[device]]\nmatch.slot = "2"\nname = "a"',
        6,
        'two [[device]] sections are named "a"',
        "",
    ),
    ('[domain]\ncpus = "off"', 2, '[domain] has a key "cpus" of its own', "[domains]"),
    ('[domain.""]\ncpus = "off"', 1, "name cannot be empty", ""),
    ("domain.win11 = 1", 1, "win11 is a whole number, not a table", ""),
    (f'[domain."{UUID}"]\n[domain."{UUID.upper()}"]', 2, f"domain {UUID} has two sections", ""),
    ("[host\n", 1, "expected ']'", "not valid TOML"),
    ("a = 1\n\na = 2", 3, "cannot overwrite a value", "not valid TOML"),
    ("\nhost = {", 2, "", "not valid TOML"),
    (f"\na = {'9' * 5000}", 2, "exceeds the limit", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "line", "says", "remedy"), WRONG)
def test_what_is_wrong_is_told_with_its_line(
    policy: Policy, text: str, line: int, says: str, remedy: str
) -> None:
    error = policy.complaint(text)
    assert error.message.startswith(f"{policy.file}:{line}: ")
    assert error.data["line"] == line
    assert says.lower() in error.message.lower()
    assert remedy in error.remedy


def test_the_nearest_key_is_in_the_data(policy: Policy) -> None:
    error = policy.complaint("[[device]]\nmatch.adress = 1")
    assert error.data == {
        "file": str(policy.file),
        "line": 2,
        "key": "device.match.adress",
        "nearest": "address",
    }


def test_a_file_that_is_not_utf_8(policy: Policy) -> None:
    policy.file.write_bytes(b"a = 1\nb = '\xe9'\n")
    with pytest.raises(BadInput, match=r"hostler.toml:2: byte 0xe9 is not UTF-8"):
        policy.load()


def test_a_folder_in_place_of_the_file(policy: Policy) -> None:
    policy.file.mkdir()
    with pytest.raises(BadInput, match="Is a directory"):
        policy.load()


def test_a_file_in_place_of_the_folder(policy: Policy) -> None:
    policy.directory.rmdir()
    policy.directory.write_text("")
    with pytest.raises(BadInput, match="Not a directory"):
        policy.load()


def test_a_file_that_may_not_be_read(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.file.write_text("")
    policy.file.chmod(0)
    if os.geteuid() == 0:  # root reads everything: let open() say what it says to others
        monkeypatch.setattr("builtins.open", _denied)
    with pytest.raises(BadInput, match=r"hostler.toml: cannot be read: Permission denied"):
        policy.load()


def _denied(path: str, *_: object) -> None:
    raise PermissionError(13, "Permission denied", path)


def test_nesting_beyond_measure(policy: Policy) -> None:
    assert "nested too deeply" in policy.complaint(f"a = {'[' * 50_000}").message


def test_a_file_beyond_measure(policy: Policy) -> None:
    with pytest.raises(BadInput, match="larger than 1 MiB"):
        policy.load("#" * (1 << 20) + "\n")


# --- [[usb]]


def test_usb_rules(policy: Policy) -> None:
    settings = policy.load(
        f"""
[[usb]]
name = "mouse"
match = {{ vendor = "046d", product = 0xc52b }}
domain = "win11"

[[usb]]
match = {{ port = "1-2.3", serial = "A" }}
domain = "{UUID.upper()}"
""",
        more="""
[[usb]]
match = { port = "pci-0000:0B:00.3-usbv2-0:1.4" }
domain = "x"

[[usb]]
match = { vendor = "0x951" }
domain = "work"
""",
    )
    assert settings.usb == (
        UsbPolicy(name="mouse", match=UsbMatch(vendor=0x046D, product=0xC52B), domain="win11"),
        UsbPolicy(name="usb 2", match=UsbMatch(port="1-2.3", serial="A"), domain=UUID),
        UsbPolicy(name="usb 3", match=UsbMatch(port="pci-0000:0b:00.3-usb-0:1.4"), domain="x"),
        UsbPolicy(name="usb 4", match=UsbMatch(vendor=0x0951), domain="work"),
    )


RULE = '[[usb]]\nmatch = { port = "1-2" }\ndomain = "win11"\n'


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("[[usb]]\ndomain = 'x'", 1, "usb", "has no match"),
        ("[[usb]]\nmatch = { port = '1-2' }", 1, "usb", "has no domain"),
        ("[[usb]]\nmatch = {}\ndomain = 'x'", 2, "usb.match", "match says nothing"),
        (RULE + "doman = 'x'", 4, "usb.doman", 'unknown key "doman"'),
        (RULE + "vendor = '046d'", 4, "usb.vendor", "belongs in the match of this [[usb]]"),
        (RULE + "when_idle = 'host'", 4, "usb.when_idle", "belongs in a [[device]]"),
        ("[[usb]]\nmatch = { product = 1 }\ndomain = 'x'", 2, "usb.match.product", "without a vendor"),
        ("[[usb]]\nmatch = { vendor = 'xyz' }\ndomain = 'x'", 2, "usb.match.vendor", "not a USB ID"),
        ("[[usb]]\nmatch = { vendor = '12345' }\ndomain = 'x'", 2, "usb.match.vendor", "not a USB ID"),
        (
            "[[usb]]\nmatch = { vendor = 65536 }\ndomain = 'x'",
            2,
            "usb.match.vendor",
            "does not fit in 16 bits",
        ),
        ("[[usb]]\nmatch = { vendor = 1.5 }\ndomain = 'x'", 2, "usb.match.vendor", "a whole number"),
        ("[[usb]]\nmatch = { port = '1.2' }\ndomain = 'x'", 2, "usb.match.port", "not a USB port"),
        ("[[usb]]\nmatch = { slot = '1' }\ndomain = 'x'", 2, "usb.match.slot", "the match of a [[device]]"),
        ("[[usb]]\nmatch = { port = '1-2' }\ndomain = ''", 3, "usb.domain", "cannot be empty"),
        ("[[usb]]\nmatch = { port = '1-2' }\ndomain = 7", 3, "usb.domain", "not text"),
        ("[usb]\ndomain = 'x'", 1, "usb", "[[usb]], in double brackets"),
        ("name = 'x'\n" + RULE, 1, "name", "[[device]]"),
        (f"{RULE}name = 'a'\n{RULE}name = 'a'", 8, "usb.name", "two [[usb]] sections"),
    ],
)
def test_usb_rules_that_are_wrong(policy: Policy, text: str, line: int, key: str, words: str) -> None:
    error = policy.complaint(text)
    assert (error.data["line"], error.data["key"]) == (line, key)
    assert words in f"{error.message}; {error.remedy}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", HugepagesPolicy()),
        ('hugepages = "auto"', HugepagesPolicy()),
        ('hugepages = "off"', HugepagesPolicy(mode="off")),
        ("hugepages = { compact = true }", HugepagesPolicy(compact=True)),
        (
            "hugepages = { compact = true, drop_caches = true }",
            HugepagesPolicy(compact=True, drop_caches=True),
        ),
        ("hugepages = { drop_caches = false }", HugepagesPolicy()),
    ],
)
def test_huge_pages(policy: Policy, text: str, wanted: HugepagesPolicy) -> None:
    assert policy.load(f"[domains]\n{text}").domains.hugepages == wanted
    assert policy.load(f'[domain."win11"]\n{text}').domain("win11", UUID).hugepages == wanted


def test_huge_pages_of_one_domain_alone(policy: Policy) -> None:
    settings = policy.load('[domains]\nhugepages = { compact = true }\n[domain."a"]\nhugepages = "off"')
    assert settings.domain("a", UUID).hugepages == HugepagesPolicy(mode="off")
    assert settings.domain("b", UUID).hugepages == HugepagesPolicy(compact=True)


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        ('hugepages = "of"', 'hugepages cannot be "of"', "auto, off"),
        ("hugepages = true", "hugepages is true or false, not a table", ""),
        ("hugepages = { compactt = true }", 'unknown key "compactt"', '"compact"'),
        ("hugepages = { compact = 1 }", "compact is a whole number, not true or false", ""),
        ("compact = true", 'unknown key "compact" in [domains]', "it belongs in hugepages"),
    ],
)
def test_huge_pages_that_are_wrong(policy: Policy, text: str, says: str, remedy: str) -> None:
    error = policy.complaint(f"[domains]\n{text}")
    assert says in error.message
    assert remedy in error.remedy


def test_wishes_for_cpus(policy: Policy) -> None:
    settings = policy.load(
        '[domains]\nclass = "efficiency"\npriority = 9\n[domain.a]\nsmt = "isolate"\nemulator = 4\n'
        "write_config = true"
    )
    assert settings.domain("b", "").core_class == "efficiency"
    assert settings.domain("a", "") == DomainPolicy(
        core_class="efficiency", priority=9, smt="isolate", emulator=4, write_config=True
    )
    assert settings.stated == {"a": frozenset({"smt", "emulator", "write_config"})}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('class = "performence"', "performance"),
        ('smt = "none"', "pair, isolate"),
        ("priority = 10", "0 to 9"),
        ("priority = -1", "0 to 9"),
        ("emulator = 5", "0 to 4"),
        ("emulator = true", "not a whole number"),
        ('write_config = "yes"', "not true or false"),
        ('core_class = "none"', "class"),
    ],
)
def test_a_wrong_wish_is_named(policy: Policy, line: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        policy.load(f"[domains]\n{line}")
    assert words in caught.value.sentence
    assert caught.value.data["line"] == 2

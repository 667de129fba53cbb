"""Names are looked up as the kernel does it, and a tree survives being written down."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlerd.host.simulated.tree import Dumped, Tree, WouldHang


def made() -> Tree:
    tree = Tree()
    tree.put("/sys/devices/a/vendor", "0x1002\n")
    tree.put("/sys/devices/a/remove", None)
    tree.link("/sys/bus/pci/devices/a", "/sys/devices/a")
    tree.link("/sys/devices/a/subsystem", "/sys/bus/pci")
    return tree


def test_links_are_followed_from_where_they_are() -> None:
    tree = made()
    assert tree.readlink("/sys/bus/pci/devices/a") == "../../../devices/a"
    assert tree.read("/sys/bus/pci/devices/a/vendor") == "0x1002\n"
    assert tree.real("/sys/bus/pci/devices/a/subsystem/devices/a/vendor") == "/sys/devices/a/vendor"
    # `..` after a link is the folder above its target, not above the link.
    assert tree.real("/sys/bus/pci/devices/a/../a/vendor") == "/sys/devices/a/vendor"


@pytest.mark.parametrize(
    ("call", "path", "number"),
    [
        ("read", "/sys/nothing", errno.ENOENT),
        ("read", "/sys/devices/a", errno.EISDIR),
        ("read", "/sys/devices/a/remove", errno.EACCES),
        ("read", "/sys/devices/a/vendor/x", errno.ENOTDIR),
        ("listdir", "/sys/devices/a/vendor", errno.ENOTDIR),
        ("readlink", "/sys/devices/a/vendor", errno.EINVAL),
        ("read", "/loop", errno.ELOOP),
        ("read", "/broken", errno.ENOENT),
    ],
)
def test_errors_are_the_kernels(call: str, path: str, number: int) -> None:
    tree = made()
    tree.link_as_is("/loop", "/loop")
    tree.link_as_is("/broken", "/gone")
    with pytest.raises(OSError) as caught:  # the number is checked
        getattr(tree, call)(path)
    assert caught.value.errno == number
    assert not tree.exists("/broken")


def test_a_locked_file_is_a_broken_rule_and_no_error() -> None:
    tree = made()
    tree.locked.add("/sys/devices/a/vendor")
    with pytest.raises(WouldHang):
        tree.read("/sys/bus/pci/devices/a/vendor")
    assert tree.hung == ["/sys/devices/a/vendor"]
    assert not issubclass(WouldHang, Exception)


def test_writing_follows_links_and_removing_does_not() -> None:
    tree = made()
    tree.put("/sys/bus/pci/devices/a/vendor", "0x10de\n")
    assert tree.read("/sys/devices/a/vendor") == "0x10de\n"
    tree.remove("/sys/bus/pci/devices/a")
    assert tree.is_folder("/sys/devices/a")
    assert tree.listdir("/sys/bus/pci/devices") == []
    with pytest.raises(FileNotFoundError):
        tree.remove("/sys/bus/pci/devices/a")
    tree.discard("/sys/bus/pci/devices/a")


NAMES = st.sampled_from(["sys", "a", "b-1", "0000:01:00.0", "cpuset.cpus"])
TREES: st.SearchStrategy[Dumped] = st.dictionaries(
    NAMES,
    st.recursive(
        st.none() | st.sampled_from(["", "x\n", "0-3"]) | st.lists(NAMES, min_size=1, max_size=1),
        lambda inner: st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(TREES)
def test_what_is_dumped_can_be_loaded(dumped: Dumped) -> None:
    tree = Tree()
    tree.load(dumped)
    assert tree.dump() == dumped


def test_a_recorded_tree_is_the_same(tmp_path: Path) -> None:
    class Real:
        """Files below a folder, as the live maker reads them."""

        def read(self, path: str) -> str:
            return Path(f"{tmp_path}{path}").read_text()

        def listdir(self, path: str) -> list[str]:
            return os.listdir(f"{tmp_path}{path}")

        def readlink(self, path: str) -> str:
            return os.readlink(f"{tmp_path}{path}")

        def exists(self, path: str) -> bool:
            return os.path.exists(f"{tmp_path}{path}")

    (tmp_path / "sys/devices/a").mkdir(parents=True)
    (tmp_path / "sys/devices/a/vendor").write_text("0x1002\n")
    (tmp_path / "sys/a").symlink_to("devices/a")
    (tmp_path / "sys/empty").mkdir()
    tree = Tree()
    tree.record(Real(), "/")
    assert tree.flat("/") == {"/sys/a": "-> devices/a", "/sys/devices/a/vendor": "0x1002\n"}
    assert tree.read("/sys/a/vendor") == "0x1002\n"
    assert tree.listdir("/sys/empty") == []

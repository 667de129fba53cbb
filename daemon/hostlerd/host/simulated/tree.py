"""Files, folders and links in memory: what the simulated kernel shows, and a recorded host once it is loaded.

Rules: no behaviour of any kernel subsystem lives here, only what the kernel's name lookup does (path_resolution(7)):
links are followed component by component, relative ones from where they are, at most 40 of them. Observers read from
another thread than the one that writes, so every call takes the lock.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hostlerd.host import DeviceNumber, Files

MAX_LINKS = 40

Dumped: TypeAlias = "dict[str, Dumped] | list[str] | str | None"
"""A tree as JSON: a folder is an object, a file its text, a write-only file null, a link a list with its target, a
device node a list with c or b and its numbers."""


class WouldHang(BaseException):
    """The real kernel would not return from this read: the device lock is held by a remove() that never ends.

    Not an Exception on purpose: no catch-all may turn it into a status. `Tree.hung` lists the paths too.
    """


@dataclass(slots=True)
class Text:
    """A file, or a device node where `device` is set. `content` is None where it can only be written."""

    content: str | None
    device: DeviceNumber | None = None


@dataclass(slots=True)
class Link:
    target: str


@dataclass(slots=True)
class Folder:
    entries: dict[str, Node] = field(default_factory=dict)


Node: TypeAlias = Folder | Link | Text


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class Tree:
    """Implements `hostlerd.host.Files`, and lets the kernel change what is there."""

    def __init__(self) -> None:
        self._root = Folder()
        self._lock = threading.RLock()
        self.locked: set[str] = set()
        """Real paths of files whose reading would hang now."""
        self.hung: list[str] = []

    # --- Files

    def read(self, path: str) -> str:
        with self._lock:
            real, node = self._walk(path)
            if isinstance(node, Folder):
                raise _error(errno.EISDIR, path)
            if real in self.locked:
                self.hung.append(real)
                raise WouldHang(real)
            # kernfs_fop_open: opening an attribute without a show method for reading is EACCES, root or not.
            if not isinstance(node, Text) or node.content is None:
                raise _error(errno.EACCES, path)
            return node.content

    def listdir(self, path: str) -> list[str]:
        with self._lock:
            return sorted(self._entries(path))

    def readlink(self, path: str) -> str:
        with self._lock:
            _, node = self._walk(path, follow=False)
            if not isinstance(node, Link):
                raise _error(errno.EINVAL, path)
            return node.target

    def exists(self, path: str) -> bool:
        with self._lock:
            try:
                self._walk(path)
            except OSError:
                return False
            return True

    def folders(self, path: str) -> list[str]:
        with self._lock:
            return [name for name, node in self._entries(path).items() if isinstance(node, Folder)]

    def links(self, path: str) -> Mapping[str, str]:
        with self._lock:
            return {name: node.target for name, node in self._entries(path).items() if isinstance(node, Link)}

    def device(self, path: str) -> DeviceNumber | None:
        with self._lock:
            try:
                _, node = self._walk(path)
            except OSError:
                return None
            return node.device if isinstance(node, Text) else None

    def executable(self, path: str) -> bool | None:  # noqa: ARG002 - modes are not kept
        return None

    def lines_with(self, path: str, words: Sequence[str]) -> list[str]:
        return [line for line in self.read(path).splitlines() if any(word in line for word in words)]

    # --- for the kernel

    def real(self, path: str) -> str:
        """The path with all links resolved. Raises OSError as open() would."""
        with self._lock:
            return self._walk(path)[0]

    def is_folder(self, path: str) -> bool:
        with self._lock:
            try:
                return isinstance(self._walk(path)[1], Folder)
            except OSError:
                return False

    def put(self, path: str, content: str | None) -> None:
        """A file, made with its folders or given new text; None is a file that can only be written."""
        with self._lock:
            folder, name = self._parent(path)
            node = folder.entries.get(name)
            if isinstance(node, Link):
                self.put(self._walk(path)[0], content)
            elif isinstance(node, Folder):
                raise _error(errno.EISDIR, path)
            elif node is None:
                folder.entries[name] = Text(content)
            else:
                node.content = content

    def put_device(self, path: str, number: DeviceNumber) -> None:
        """A device node (mknod)."""
        with self._lock:
            folder, name = self._parent(path)
            folder.entries[name] = Text("", number)

    def link(self, path: str, target: str) -> None:
        """A link to `target`, a real path: stored relative, as sysfs stores its links (sysfs_create_link)."""
        with self._lock:
            folder, name = self._parent(path)
            here = os.path.dirname(self._walk(os.path.dirname(path))[0] + "/x")
            folder.entries[name] = Link(os.path.relpath(target, here))

    def link_as_is(self, path: str, target: str) -> None:
        """A link that stores exactly `target` (/proc/PID/fd/N)."""
        with self._lock:
            folder, name = self._parent(path)
            folder.entries[name] = Link(target)

    def folder(self, path: str) -> None:
        with self._lock:
            parent, name = self._parent(path)
            if not isinstance(parent.entries.setdefault(name, Folder()), Folder):
                raise _error(errno.EEXIST, path)

    def remove(self, path: str) -> None:
        """A link, a file or a folder with all that is in it. Raises FileNotFoundError."""
        with self._lock:
            real, _ = self._walk(os.path.dirname(path))
            parent = self._walk(real)[1]
            name = os.path.basename(path)
            if not isinstance(parent, Folder) or name not in parent.entries:
                raise _error(errno.ENOENT, path)
            del parent.entries[name]

    def discard(self, path: str) -> None:
        """As `remove`, and no error where there is nothing."""
        with self._lock:
            try:
                self.remove(path)
            except FileNotFoundError:
                return

    # --- as a whole

    def dump(self) -> Dumped:
        with self._lock:
            return _dump(self._root)

    def load(self, dumped: Dumped) -> None:
        """Everything that is here is replaced."""
        root = _load(dumped)
        with self._lock:
            self._root = root if isinstance(root, Folder) else Folder()

    def flat(self, *under: str) -> dict[str, str]:
        """Real path to text (links: `-> target`, write-only files: empty) below the given folders, for comparing."""
        with self._lock:
            found: dict[str, str] = {}
            for top in under or ("/",):
                real, node = self._walk(top)
                for path, leaf in _leaves(real.rstrip("/"), node):
                    found[path] = f"-> {leaf.target}" if isinstance(leaf, Link) else leaf.content or ""
            return found

    def save(self, root: str) -> None:
        """Write everything below the folder `root`, as a recorded host. Write-only files are empty there."""
        with self._lock:
            _save(self._root, root)

    def record(self, files: Files, path: str) -> None:
        """Copy what another maker of `Files` has at and below `path`. Files that cannot be read are left out."""
        try:
            self.link_as_is(path, files.readlink(path))
        except OSError:
            pass
        else:
            return
        try:
            names = files.listdir(path)
        except NotADirectoryError:
            try:
                self.put(path, files.read(path))
            except OSError:
                return
        except OSError:
            return
        else:
            if _parts(path):
                self.folder(path)
            for name in names:
                self.record(files, f"{path.rstrip('/')}/{name}")

    # --- lookup

    def _entries(self, path: str) -> Mapping[str, Node]:
        _, node = self._walk(path)
        if not isinstance(node, Folder):
            raise _error(errno.ENOTDIR, path)
        return node.entries

    def _walk(self, path: str, *, follow: bool = True) -> tuple[str, Node]:
        todo = _parts(path)[::-1]
        stack: list[tuple[str, Folder]] = []
        node: Node = self._root
        links = 0
        while todo:
            part = todo.pop()
            here = stack[-1][1] if stack else self._root
            if part == "..":
                if stack:
                    stack.pop()
                node = stack[-1][1] if stack else self._root
                continue
            if part not in here.entries:
                raise _error(errno.ENOENT, path)
            node = here.entries[part]
            if isinstance(node, Link) and (todo or follow):
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP, path)
                if node.target.startswith("/"):
                    stack.clear()
                todo.extend(_parts(node.target)[::-1])
                node = stack[-1][1] if stack else self._root
            elif isinstance(node, Folder):
                stack.append((part, node))
            elif todo:
                raise _error(errno.ENOTDIR, path)
            else:
                return "/" + "/".join([name for name, _ in stack] + [part]), node
        return "/" + "/".join(name for name, _ in stack), node

    def _parent(self, path: str) -> tuple[Folder, str]:
        """The folder a new name goes into, made where it is missing."""
        *above, name = _parts(path)
        here = self._root
        for depth, part in enumerate(above, 1):
            node = here.entries.get(part)
            if node is None:
                node = here.entries[part] = Folder()
            elif isinstance(node, Link):
                _, node = self._walk("/" + "/".join(above[:depth]))
            if not isinstance(node, Folder):
                raise _error(errno.ENOTDIR, path)
            here = node
        return here, name


def _leaves(path: str, node: Node) -> Iterator[tuple[str, Link | Text]]:
    if isinstance(node, Folder):
        for name, child in sorted(node.entries.items()):
            yield from _leaves(f"{path}/{name}", child)
    else:
        yield path, node


def _save(node: Node, path: str) -> None:
    if isinstance(node, Folder):
        os.makedirs(path, exist_ok=True)
        for name, child in node.entries.items():
            _save(child, f"{path}/{name}")
    elif isinstance(node, Link):
        os.symlink(node.target, path)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(node.content or "")


def _dump(node: Node) -> Dumped:
    if isinstance(node, Folder):
        return {name: _dump(child) for name, child in node.entries.items()}
    if isinstance(node, Link):
        return [node.target]
    return [str(part) for part in node.device] if node.device is not None else node.content


def _load(dumped: Dumped) -> Node:
    if isinstance(dumped, dict):
        return Folder({name: _load(child) for name, child in dumped.items()})
    if isinstance(dumped, list):
        if len(dumped) == 1:
            return Link(dumped[0])
        kind, major, minor = dumped
        return Text("", ("b" if kind == "b" else "c", int(major), int(minor)))
    return Text(dumped)

"""What a machine says about itself, read with suspicion.

Every file is somebody else's: it may be missing, gated (EAGAIN), forbidden, endless, or full of bytes that are
no text. Reading one gives its beginning or None and never raises. A captured tree is never left: a link in it
that points outside, such as an absolute /proc/device-tree, counts as missing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from edge_sdk.targets.target import Target

Confidence = Literal["exact", "module", "soc", "family", "generic", "override"]
"""How much the evidence names.

exact: the board. module: the module that sits on an unknown carrier. soc: the chip, on an unknown board. family:
the vendor's family and no more. generic: an ordinary computer, or nothing. override: somebody said so.
"""

_RANK: dict[Confidence, int] = {"generic": 0, "family": 1, "soc": 2, "module": 3, "exact": 4, "override": 5}
_MAX_BYTES = 64 * 1024
_MAX_STRING = 200
_MAX_STRINGS = 64
_MAX_ENTRIES = 512


class Tree:
    """The /proc and /sys of a machine: this one's for the root "/", or a captured copy."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.is_this_machine = self.root == Path("/").resolve()

    def read(self, path: str) -> bytes | None:
        """The first 64 KiB of a regular file, by its path on the machine ("/proc/cpuinfo"); None if there is none."""
        try:
            found = self._inside(path)
            if found is None:
                return None
            # O_NONBLOCK: a pipe in the place of a file would otherwise block for ever.
            descriptor = os.open(found, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return file.read(_MAX_BYTES)
            finally:
                os.close(descriptor)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: Python 3.10 to 3.12 on a circle of links
            return None

    def strings(self, path: str) -> tuple[str, ...]:
        """The strings of a file that ends each one with NUL, as the device tree does, made printable."""
        data = self.read(path) or b""
        pieces = (printable(piece) for piece in data.split(b"\0")[:_MAX_STRINGS])
        return tuple(piece for piece in pieces if piece)

    def text(self, path: str) -> str | None:
        """The first string of a file on one printable line, or None where there is none."""
        return next(iter(self.strings(path)), None)

    def lines(self, path: str) -> tuple[str, ...]:
        """The lines of a text file, made printable."""
        return tuple(printable(line) for line in (self.read(path) or b"").split(b"\n"))

    def names(self, path: str) -> tuple[str, ...]:
        """The names in a folder that print, in alphabetical order; empty where there is no folder."""
        try:
            found = self._inside(path)
            if found is None:
                return ()
            with os.scandir(found) as entries:
                return tuple(sorted(entry.name for entry in islice(entries, _MAX_ENTRIES) if entry.name.isprintable()))
        except (OSError, ValueError, RuntimeError):
            return ()

    def _inside(self, path: str) -> Path | None:
        found = (self.root / path.lstrip("/")).resolve()
        return found if self.is_this_machine or found.is_relative_to(self.root) else None


@dataclass(frozen=True)
class Clues:
    """The common evidence, read once, and the tree for what only one family looks at.

    Attributes:
        tree: The machine's files.
        compatible: The device tree's compatible strings, most specific first; empty where there is none.
        compatible_file: Where they were read.
        model: The device tree's model string, or None.
        model_file: Where it was read.
        cpu_name: The processor's name, where the caller knows it.
        machine: `platform.machine()` where the tree is this machine's, else None.
    """

    tree: Tree
    compatible: tuple[str, ...]
    compatible_file: str
    model: str | None
    model_file: str
    cpu_name: str | None
    machine: str | None


@dataclass(frozen=True)
class Finding:
    """One answer that a piece of evidence gives.

    Attributes:
        target: A table's name.
        confidence: How much the evidence names.
        length: Length of the string that matched; among equal confidences the longest wins.
        evidence: One line that says which file said what.
        carrier: The carrier, where a module was recognised.
    """

    target: str
    confidence: Confidence
    length: int
    evidence: str
    carrier: str | None = None


def best(findings: Iterable[Finding]) -> Finding | None:
    """The finding that names most; among equals the longest match, and then the first."""
    return max(findings, key=lambda found: (_RANK[found.confidence], found.length), default=None)


def gather(tree: Tree, *, cpu_name: str | None, machine: str | None) -> Clues:
    """Reads the common evidence of a tree."""
    bases = ("/proc/device-tree", "/sys/firmware/devicetree/base")
    compatible_file = next((f"{base}/compatible" for base in bases if tree.strings(f"{base}/compatible")), "")
    model_file = next((f"{base}/model" for base in bases if tree.text(f"{base}/model")), "")
    return Clues(
        tree=tree,
        compatible=tree.strings(compatible_file) if compatible_file else (),
        compatible_file=compatible_file,
        model=tree.text(model_file) if model_file else None,
        model_file=model_file,
        cpu_name=printable(cpu_name.encode("utf-8", "surrogateescape")) or None if cpu_name else None,
        machine=machine,
    )


def by_compatible(clues: Clues, shelf: Iterable[Target]) -> Iterator[Finding]:
    """What the tables say about whole compatible strings, in the order of the device tree."""
    owners = {string: target for target in shelf for string in target.match.compatible}
    for entry in clues.compatible:
        owner = owners.get(entry)
        if owner is not None:
            evidence = f"{clues.compatible_file} has {entry!r}: {owner.label}"
            yield Finding(owner.name, level_of(owner), len(entry), evidence)


def by_model(clues: Clues, shelf: Iterable[Target]) -> Iterator[Finding]:
    """What the tables say about the beginning of the model string: the longest that fits.

    Its length counts as 0, so that a compatible string that names another board wins.
    """
    if clues.model is None:
        return
    fits = [(beginning, target) for target in shelf for beginning in target.match.models]
    fits = [(beginning, target) for beginning, target in fits if _begins(clues.model, beginning)]
    if fits:
        _, target = max(fits, key=lambda fit: len(fit[0]))
        yield Finding(target.name, level_of(target), 0, f"{clues.model_file} is {clues.model!r}: {target.label}")


def level_of(target: Target) -> Confidence:
    """The confidence that a table of this kind deserves when one of its strings matches."""
    return "exact" if target.kind == "board" else target.kind


def memory_mib(tree: Tree) -> int | None:
    """MemTotal of /proc/meminfo in MiB, or None where it is not readable."""
    for line in tree.lines("/proc/meminfo"):
        found = re.fullmatch(r"MemTotal:\s*(\d{1,15}) kB", line)
        if found:
            return int(found[1]) // 1024
    return None


def printable(data: bytes) -> str:
    """At most 200 characters of a string, on one line, with everything that does not print escaped."""
    text = data[: 4 * _MAX_STRING].decode("utf-8", "backslashreplace").replace("\t", " ").strip()
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return escaped[:_MAX_STRING]


def _begins(text: str, beginning: str) -> bool:
    """Whether a text begins so and a word ends there: "Raspberry Pi 3 Model B" does not begin with "... A"."""
    return text == beginning or text.startswith(beginning + " ")

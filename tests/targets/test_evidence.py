"""Files of a machine are read with suspicion: what cannot be read is missing, and nothing is read for ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.targets.evidence import Finding, Tree, best, memory_mib, printable

MakeTree = Callable[[Mapping[str, Any]], Path]


class TestTree:
    def test_strings_are_split_on_nul_and_never_joined(self, make_tree: MakeTree) -> None:
        tree = Tree(make_tree({"/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"}))
        assert tree.strings("/compatible") == ("raspberrypi,5-model-b", "brcm,bcm2712")
        assert tree.text("/compatible") == "raspberrypi,5-model-b"

    def test_a_missing_file_gives_nothing(self, make_tree: MakeTree) -> None:
        tree = Tree(make_tree({}))
        assert (tree.read("/x"), tree.strings("/x"), tree.text("/x"), tree.names("/x")) == (None, (), None, ())

    def test_a_path_out_of_the_tree_gives_nothing(self, make_tree: MakeTree) -> None:
        tree = Tree(make_tree({"/inside": "here"}))
        assert tree.text("/inside") == "here"
        assert tree.read("/../../../etc/hostname") is None
        assert tree.names("/..") == ()

    def test_a_folder_is_listed_in_order(self, make_tree: MakeTree) -> None:
        tree = Tree(make_tree({"/hwmon/hwmon1/name": "", "/hwmon/hwmon0/name": ""}))
        assert tree.names("/hwmon") == ("hwmon0", "hwmon1")

    def test_only_the_root_is_this_machine(self, make_tree: MakeTree) -> None:
        assert Tree(Path("/")).is_this_machine
        assert not Tree(make_tree({})).is_this_machine


class TestMemory:
    def test_it_is_memtotal_in_mib(self, make_tree: MakeTree) -> None:
        assert memory_mib(Tree(make_tree({"/proc/meminfo": "MemTotal:       16384000 kB\nMemFree: 1 kB\n"}))) == 16000

    def test_a_line_that_is_no_number_is_none(self, make_tree: MakeTree) -> None:
        assert memory_mib(Tree(make_tree({"/proc/meminfo": "MemTotal: lots kB\n"}))) is None


class TestPrintable:
    def test_escapes_what_does_not_print(self) -> None:
        assert printable(b"a\x1b[2J\n\xffz") == "a\\x1b[2J\\n\\xffz"

    @given(st.binary(max_size=2000))
    def test_any_bytes_become_one_short_line(self, data: bytes) -> None:
        text = printable(data)
        assert text.isprintable()
        assert len(text) <= 200


class TestBest:
    def test_what_names_more_wins_then_the_longest_then_the_first(self) -> None:
        soc, board = Finding("soc", "soc", 99, ""), Finding("board", "exact", 1, "")
        longer, later = Finding("longer", "exact", 2, ""), Finding("later", "exact", 2, "")
        assert best([soc, board]) is board
        assert best([board, longer, later]) is longer
        assert best([]) is None

"""A board table is read whole or refused with the file, the board and the key."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import targets
from edge_sdk.errors import TargetError
from edge_sdk.targets import Fact, Match, Rail, Rate, Source, get, load, load_all, names, parse

SHEET = '[sources]\nsheet = { text = "the data sheet", confirmed = true }\n'
BASE = SHEET + '[boards.base]\nlabel = "Base"\nbackends = ["onnxruntime"]\nprecisions = { onnxruntime = ["int8"] }\n'


def board(body: str, name: str = "acme-box") -> str:
    """A file with a base board and one more."""
    return f'{BASE}[boards.{name}]\nlabel = "Acme Box"\n{body}\n'


def refusal(text: str) -> str | None:
    """What is wrong with a file, or None."""
    try:
        parse({"acme": text})
    except TargetError as error:
        return str(error)
    return None


class TestReading:
    def test_a_board_is_a_table_and_nothing_else(self) -> None:
        text = board(
            """
            soc = "acme,a1"
            backends = ["qnn", "tflite"]
            precisions = { qnn = ["int8", "a16w8"], tflite = ["fp32"] }
            rails = [{ name = "VIN", driver = "ina238", address = "*", in_total = true }]
            power_modes = ["15W"]
            kiosk = "uefi_ab"
            flash = "qdl"
            notes = ["it hums"]
            facts.memory_mib = { value = 4096, source = "sheet" }
            facts.power_modes_w = { value = [7.5, 15], source = "sheet" }
            rates = [{ value = 12, unit = "TOPS", precision = "int8", sparse = "unstated", source = "sheet" }]
            match = { compatible = ["acme,box"], soc_ids = [7], revision_types = [0x1a] }
            """
        )
        target = parse({"acme": text})["acme-box"]
        source = Source("the data sheet", confirmed=True)
        assert (target.name, target.family, target.kind, target.lineage) == ("acme-box", "acme", "board", ())
        assert (target.memory_mib, target.soc, target.kiosk, target.flash) == (4096, "acme,a1", "uefi_ab", "qdl")
        assert target.rails == (Rail("VIN", "ina238", "*", in_total=True),)
        assert target.rates == (Rate(12.0, "TOPS", "int8", None, None, source),)
        assert target.facts["power_modes_w"] == Fact((7.5, 15.0), source)
        assert target.match == Match(compatible=("acme,box",), soc_ids=(7,), revision_types=(0x1A,))
        assert target.precisions == {"qnn": ("int8", "a16w8"), "tflite": ("fp32",)}
        assert (target.power_modes, target.notes) == (("15W",), ("it hums",))

    def test_what_a_table_does_not_say_is_absent(self) -> None:
        target = parse({"acme": board("")})["acme-box"]
        assert target.memory_mib is None
        assert target.kiosk is None
        assert target.flash is None
        assert (target.rails, target.rates, target.backends, target.power_modes) == ((), (), (), ())
        assert target.fact("hexagon") is None


class TestExtends:
    def test_a_board_takes_over_what_it_does_not_say_itself(self) -> None:
        texts = {
            "acme": board('extends = "base"\nfacts.cpu_count = { value = 4, source = "sheet" }')
            + '[boards.acme-mini]\nlabel = "Mini"\nextends = "acme-box"\npower_modes = ["5W"]\n'
        }
        mini = parse(texts)["acme-mini"]
        assert mini.lineage == ("acme-box", "base")
        assert mini.precisions == {"onnxruntime": ("int8",)}
        assert mini.fact("cpu_count") == 4
        assert mini.is_a("base")
        assert mini.is_a("acme-mini")
        assert not mini.is_a("acme")

    def test_what_is_nearer_replaces_what_is_farther_and_facts_are_replaced_one_by_one(self) -> None:
        text = board(
            'facts.cpu_count = { value = 4, source = "sheet" }\nfacts.memory_mib = { value = 8, source = "sheet" }'
        )
        text += (
            '[boards.mini]\nlabel = "Mini"\nextends = "acme-box"\nfacts.memory_mib = { value = 4, source = "sheet" }\n'
        )
        assert parse({"acme": text})["mini"].memory_mib == 4
        assert parse({"acme": text})["mini"].fact("cpu_count") == 4

    def test_match_strings_and_labels_are_never_taken_over(self) -> None:
        text = board('kind = "soc"\nmatch = { compatible = ["acme,a1"] }')
        text += '[boards.mini]\nlabel = "Mini"\nextends = "acme-box"\n'
        mini = parse({"acme": text})["mini"]
        assert (mini.match, mini.kind, mini.label) == (Match(), "board", "Mini")

    def test_a_board_may_extend_one_of_another_family(self) -> None:
        other = '[boards.other]\nlabel = "Other"\nextends = "base"\n'
        assert parse({"acme": BASE, "zeta": other})["other"].precisions == {"onnxruntime": ("int8",)}

    def test_a_board_may_leave_out_what_it_would_take_over(self) -> None:
        text = board('power_modes = ["5W"]\nfacts.cpu_count = { value = 4, source = "sheet" }')
        text += '[boards.mini]\nlabel = "Mini"\nextends = "acme-box"\nwithout = ["power_modes", "cpu_count"]\n'
        mini = parse({"acme": text})["mini"]
        assert mini.power_modes == ()
        assert mini.fact("cpu_count") is None

    @pytest.mark.parametrize("chain", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"]])
    def test_a_circle_is_refused_with_the_way_around(self, chain: list[str]) -> None:
        text = "".join(f'[boards.{name}]\nlabel = "{name}"\nextends = "{parent}"\n' for name, parent in pairwise(chain))
        with pytest.raises(TargetError, match=r"extends: goes in a circle: .* -> "):
            parse({"acme": text})

    def test_a_parent_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(TargetError, match=r"board 'acme-box', extends: no table is called 'nobody'"):
            parse({"acme": board('extends = "nobody"')})


MALFORMED = {
    "an unknown key": ("colour = 'red'", "colour: nobody knows this key"),
    "an unknown fact": ("facts.price = { value = 1, source = 'sheet' }", r"facts\.price: nobody knows this key"),
    "an unknown backend": ("backends = ['ncnn']", "backends: must be one of tensorrt"),
    "an unknown precision": ("precisions = { qnn = ['int4'] }", r"precisions\.qnn: must be one of fp32"),
    "no precision": ("precisions = { qnn = [] }", r"precisions\.qnn: must name at least one"),
    "backends without precisions": ("backends = ['qnn']", "must name the same engines"),
    "an unknown kind": ("kind = 'toaster'", "kind: must be one of board"),
    "an unknown flash method": ("flash = 'dd'", "flash: must be one of medium"),
    "a text that is a number": ("soc = 3", "soc: must be one line of text"),
    "a text of two lines": ('soc = "a\\nb"', "soc: must be one line of text"),
    "an empty text": ("soc = ''", "soc: must be one line of text"),
    "a list that is a text": ("notes = 'one'", "notes: must be a list"),
    "the same thing twice": ("power_modes = ['5W', '5W']", "power_modes: says something twice"),
    "a table that is a text": ("match = 'me'", "match: must be a table"),
    "an unknown match key": ("match = { serial = ['1'] }", r"match\.serial: nobody knows this key"),
    "a soc id that is a text": ("match = { soc_ids = ['498'] }", r"match\.soc_ids: must be a whole number"),
    "a soc id that is a truth": ("match = { soc_ids = [true] }", r"match\.soc_ids: must be a whole number"),
    "a fact without a source": ("facts.memory_mib = { value = 1 }", r"facts\.memory_mib\.source: is missing"),
    "a fact with nobody's source": (
        "facts.memory_mib = { value = 1, source = 'me' }",
        r"facts\.memory_mib\.source: \[sources\] has no 'me'",
    ),
    "a fact of the wrong type": ("facts.cpu_count = { value = 'four', source = 'sheet' }", "must be a whole number"),
    "a fact that is not true": ("facts.cpu_fp16_arithmetic = { value = 1, source = 'sheet' }", "must be true or false"),
    "a negative bandwidth": ("facts.memory_bandwidth_gb_s = { value = -1, source = 'sheet' }", "above 0"),
    "an endless bandwidth": ("facts.memory_bandwidth_gb_s = { value = inf, source = 'sheet' }", "above 0"),
    "a fact with a remark": ("facts.cpu = { value = 'A53', source = 'sheet', why = 'x' }", r"cpu\.why: nobody knows"),
    "a rate without precision": (
        "rates = [{ value = 1, unit = 'TOPS', sparse = false, source = 'sheet' }]",
        r"rates\.0\.precision: is missing",
    ),
    "a rate without sparsity": (
        "rates = [{ value = 1, unit = 'TOPS', precision = 'int8', source = 'sheet' }]",
        r"rates\.0\.sparse: is missing",
    ),
    "a rate without a source": (
        "rates = [{ value = 1, unit = 'TOPS', precision = 'int8', sparse = true }]",
        r"rates\.0\.source: is missing",
    ),
    "a rate in another unit": (
        "rates = [{ value = 1, unit = 'GOPS', precision = 'int8', sparse = true, source = 'sheet' }]",
        r"rates\.0\.unit: must be one of TOPS",
    ),
    "a rail without in_total": (
        "rails = [{ name = 'A', driver = 'b', address = 'c' }]",
        r"rails\.0\.in_total: is missing",
    ),
    "two rails at one address": (
        "rails = [{name='A',driver='b',address='c',in_total=true}, {name='B',driver='b',address='c',in_total=true}]",
        "two rails have the same driver and address",
    ),
    "leaving out what is not inherited": ("extends = 'base'\nwithout = ['rails']", "'rails' is not inherited"),
}


class TestMalformedTables:
    @pytest.mark.parametrize("case", MALFORMED)
    def test_is_refused_with_the_file_the_board_and_the_key(self, case: str) -> None:
        body, message = MALFORMED[case]
        with pytest.raises(TargetError, match=rf"^acme/boards\.toml, board 'acme-box'.*{message}") as caught:
            parse({"acme": board(body)})
        assert "\n" not in str(caught.value)

    def test_a_board_needs_a_label(self) -> None:
        with pytest.raises(TargetError, match="board 'box': needs a label"):
            parse({"acme": "[boards.box]\n"})

    @pytest.mark.parametrize("name", ["Acme", '"acme box"', "acme--box", '"-acme"', '""'])
    def test_a_name_is_kebab_case(self, name: str) -> None:
        with pytest.raises(TargetError, match="a name is kebab-case"):
            parse({"acme": board("", name)})

    def test_two_families_cannot_share_a_name(self) -> None:
        with pytest.raises(TargetError, match=r"zeta/boards\.toml, board 'base': this name is taken by acme"):
            parse({"acme": BASE, "zeta": BASE})

    def test_two_tables_cannot_share_a_match_string(self) -> None:
        text = board('match = { compatible = ["acme,box"] }')
        text += '[boards.mini]\nlabel = "Mini"\nmatch = { compatible = ["acme,box"] }\n'
        with pytest.raises(TargetError, match=r"board 'mini', match\.compatible: 'acme,box' already means 'acme-box'"):
            parse({"acme": text})

    @pytest.mark.parametrize("text", ["[boards", "boards = 3", "[board.x]", "sources = []", "[boards]\nbox = 3"])
    def test_a_file_that_is_no_board_table_is_refused(self, text: str) -> None:
        with pytest.raises(TargetError, match=r"^acme/boards\.toml"):
            parse({"acme": text})

    def test_a_source_says_whether_it_is_confirmed(self) -> None:
        with pytest.raises(TargetError, match=r"sources\.sheet\.confirmed: is missing"):
            parse({"acme": '[sources]\nsheet = { text = "x" }\n'})

    @settings(max_examples=80, deadline=None)
    @given(text=st.text(max_size=200))
    def test_no_text_raises_anything_else(self, text: str) -> None:
        error = refusal(text)
        assert error is None or error.startswith("acme/boards.toml")


class TestTheInstalledTables:
    def test_a_family_is_a_folder_with_a_boards_toml(self) -> None:
        package = Path(targets.__file__).parent
        folders = sorted(file.parent.name for file in package.glob("*/boards.toml"))
        assert list(targets.families()) == folders
        assert all((package / folder / "identify.py").is_file() for folder in folders)

    def test_names_are_sorted_and_can_be_asked_by_kind(self) -> None:
        assert list(names()) == sorted(load_all())
        assert "raspberry-pi-5" in names("board")
        assert "raspberry-pi-5" not in names("soc")
        assert set(names()) == {name for kind in ("board", "soc", "family", "generic") for name in names(kind)}

    def test_a_name_that_nobody_has_is_none_or_an_error_with_the_nearest_ones(self) -> None:
        assert get("jetson-orin-nanoo") is None
        with pytest.raises(TargetError, match=r"'jetson-orin-nanoo'; did you mean jetson-orin-nano"):
            load("jetson-orin-nanoo")
        with pytest.raises(TargetError, match=r"devices --boards.* lists them"):
            load("??")

    def test_they_are_read_once(self) -> None:
        assert load("raspberry-pi-5") is load("raspberry-pi-5")

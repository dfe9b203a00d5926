"""A power is read out of a line where it is plainly one, or where the user says which; else there is a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import UsageError
from edge_sdk.sensors.base import Absent, Value
from edge_sdk.sensors.line_values import LineParser, Lines, line_options, line_pattern, watts


def last(*lines: str, **options: str) -> Value | None:
    """What the last of some lines gives."""
    parser = LineParser(line_options(options))
    return [parser.feed(line) for line in lines][-1]


def reason(*lines: str, **options: str) -> str:
    value = last(*lines, **options)
    assert isinstance(value, Absent)
    return value.reason


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("5.32", 5.32), ("5.32 W", 5.32), ("5320mW", 5.32), ("5320000 uW", 5.32), ("+.5", 0.5), ("1e1", 10.0), ("0", 0.0)],
)
def test_a_number_has_a_unit_or_is_in_watts(text: str, wanted: float) -> None:
    assert watts(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "1_000", "5.32 V", "5,32", "1,234.5", "0x10", "-1", "5 . 3", "1e999"]
)
def test_what_is_no_power_is_absent(text: str) -> None:
    assert isinstance(watts(text), Absent)


def test_a_decimal_comma_is_read_where_it_cannot_be_a_column() -> None:
    assert watts("5,32", decimal_comma=True) == pytest.approx(5.32)
    assert last("Zeit;Power (W)", "12:00:01;5,32") == pytest.approx(5.32)
    assert reason("5,32") == "several columns and no header: say column=, from 0"


@pytest.mark.parametrize(
    ("lines", "options", "wanted"),
    [
        (["5.32"], {}, 5.32),
        (["5320"], {"unit": "mW"}, 5.32),
        (["time,voltage,current,power_w", "1,5.1,1.0,5.2"], {}, 5.2),
        (["Timestamp\tPower(mW)", "2026-11-20 12:00:01\t5200"], {}, 5.2),
        (["t;U [V];I [A];P [W]", "1;5,1;1,0;5,2"], {}, 5.2),
        (["time,V,A,W", "1,5.1,1.0,5.2"], {}, 5.2),
        (["# time, power_w", "1,5.2"], {}, 5.2),
        (['"Time","Output Power (W)","Power factor"', '"1","5.2","0.9"'], {}, 5.2),
        (["time,power_w", "1,5.2,"], {}, 5.2),
        (["1,5.1,5.2"], {"column": "2"}, 5.2),
        (["a,b,c", "1,5.1,5.2"], {"column": "C"}, 5.2),
        (["a,b,p_mw", "1,5.1,5200"], {"column": "2"}, 5.2),
        (["mV,mA,power", "5000,1000,5000"], {"unit": "mw"}, 5.0),
        (["V=5.11 I=1.04 P=5.32"], {}, 5.32),
        (["5.11V, 1.04A, power: 5.32W"], {}, 5.32),
        (["V=5.11,x=1.04,p_mw=5320"], {}, 5.32),
        (["V=5.11,x=5.32"], {"column": "x"}, 5.32),
        (["V=5.11 x=5.32 I=1.04"], {"column": "x"}, 5.32),
        (["I: 1.04 A Power: 5.32 W Temp: 30 C"], {}, 5.32),
        (['{"v": 5.11, "power_w": 5.32}'], {}, 5.32),
        (["12:00:01 5.11 1.04 5.32"], {"column": "3"}, 5.32),
        (["12:00:01 |  5320 |"], {"pattern": r"\|\s*(\d+) \|", "unit": "mw"}, 5.32),
        (["hello", "5.32"], {"pattern": r"([\d.]+)"}, 5.32),
        (["\ufefftime,power_w", "1,5.2"], {}, 5.2),
    ],
)
def test_a_line_is_read(lines: list[str], options: dict[str, str], wanted: float) -> None:
    assert last(*lines, **options) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("lines", "options", "wanted"),
    [
        (["1,2,3"], {}, "several columns and no header: say column=, from 0"),
        (["time,voltage,current", "1,2,3"], {}, "no column of power among 'time', 'voltage', 'current': say column="),
        (["max_w,avg_w", "1,2"], {}, "several columns of power among 'max_w', 'avg_w': say column="),
        (["mV,mA,power", "1,2,3"], {}, "'power' has no unit, and others are in mV or mA: say unit=w or unit=mw"),
        (["a,b", "1,2"], {"column": "c"}, "there is no column 'c'; there are 'a', 'b'"),
        (["1,2"], {"column": "c"}, "there is no column 'c'; there are no names"),
        (["1,2"], {"column": "2"}, "the line has 2 columns, and none 2"),
        (["time,power_w", "1,2,3"], {}, "the line has 3 columns, and the header 2"),
        (["time,power_w", "1,nan"], {}, "not a number: 'nan'"),
        (["time,power_w", "1,"], {}, "not a number: ''"),
        (["time,power_w", "1,5.1V"], {}, "not a power: '5.1V'"),
        (["time,power_w", "1,-3"], {}, "negative: -3.000"),
        (["5.3 W"], {"unit": "mw"}, "the line says W, and unit= or the header another unit"),
        (["5.3", "sensor error"], {}, "no number in the line 'sensor error'"),
        (["P=nan"], {}, "not a number: 'nan'"),
        (["P=1.0 P=2.0"], {}, "several columns of power among 'P', 'P': say column="),
        (["P=5,32"], {}, "several columns and no header: say column=, from 0"),
        (["x"], {"pattern": "(y)"}, "the pattern does not fit the line 'x'"),
        (["x" * 201], {"pattern": "(x)"}, "a line longer than 200 characters, in which no pattern is looked for"),
    ],
)
def test_where_it_cannot_be_told_there_is_a_reason(lines: list[str], options: dict[str, str], wanted: str) -> None:
    assert reason(*lines, **options) == wanted


def test_a_header_in_the_middle_is_no_value_and_counts_from_then_on() -> None:
    parser = LineParser(line_options({}))
    lines = ["power_w,x", "5.1,1", "x,power_w", "1,5.2", "", "# remark"]
    assert [parser.feed(line) for line in lines] == [None, 5.1, None, 5.2, None, None]


def test_what_is_shown_of_a_line_is_short_and_prints() -> None:
    shown = reason("5", "\x1b[31m" + "b" * 1000)
    assert shown.isprintable()
    assert len(shown) < 80


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"unit": "kw"}, "unit must be w, mw or uw"),
        ({"interval": "0"}, "interval must be seconds above 0"),
        ({"interval": "x"}, "interval must be seconds above 0"),
        ({"interval": "nan"}, "interval must be seconds above 0"),
        ({"column": " "}, "column must be a name or a number"),
        ({"column": "1", "pattern": "(x)"}, "exclude each other"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "x"}, "must have one group, the value, and has 0"),
        ({"pattern": "(a)(b)"}, "has 2"),
        ({"pattern": "(a+)+b"}, "no group may be repeated"),
        ({"pattern": "(a|a)*b"}, "no group may be repeated"),
        ({"pattern": r"(a)\1"}, "no group may be repeated or referred to"),
        ({"pattern": r"(\d+){2,}"}, "no group may be repeated"),
        ({"pattern": r"\d*\d*\d*(\d*)"}, "repeats more than 3 times"),
        ({"pattern": "(x" + "y" * 300 + ")"}, "longer than 200 characters"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, str], wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted.replace("(", r"\(")):
        line_options(options)


@pytest.mark.parametrize("text", [r"P=([\d.]+)\s*W", r"\(([+*)]+)\)", r"a{3}(b?)", r"[^)]*\)(\d+)"])
def test_an_ordinary_pattern_is_taken(text: str) -> None:
    assert line_pattern(text).groups == 1


LINE = st.text(max_size=80) | st.text(st.sampled_from("0123456789.,;\t -+eE=:\"'#WmAVPower_\0"), max_size=60)


@given(st.lists(LINE, max_size=5), st.sampled_from([{}, {"column": "1"}, {"column": "P"}, {"unit": "mw"}]))
def test_any_lines_give_powers_and_reasons(lines: list[str], options: dict[str, str]) -> None:
    parser = LineParser(line_options(options))
    for line in lines:
        value = parser.feed(line)
        assert value is None or isinstance(value, Absent) or 0 <= value < float("inf")


@given(st.text(max_size=40))
def test_any_pattern_is_compiled_or_refused(text: str) -> None:
    try:
        assert line_pattern(text).groups == 1
    except UsageError as error:
        assert "pattern" in str(error)  # noqa: PT017


# ---- lines out of pieces


@given(st.lists(st.binary(max_size=30), max_size=8), st.data())
def test_lines_are_the_same_however_they_come(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"\n".join(lines) + b"\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    one, many = Lines(20), Lines(20)
    assert one.feed(whole) == [line for piece in pieces for line in many.feed(piece)]


def test_a_line_that_is_too_long_is_left_out_and_the_next_is_read() -> None:
    lines = Lines(5)
    assert lines.feed(b"12345\n123456\n") == ["12345"]
    for _ in range(100):
        assert lines.feed(b"x" * 100_000) == []
    assert len(lines._begun) <= 5
    assert lines.feed(b"\nab\r\n\r\ncd") == ["ab"]
    assert lines.feed(b"\r") == ["cd"]


def test_the_line_in_whose_middle_one_begins_is_left_out() -> None:
    lines = Lines(50)
    lines.skip()
    assert lines.feed(b".32\n5.33\n5.3") == ["5.33"]
    lines.forget()
    assert lines.feed(b"4\n") == ["4"]

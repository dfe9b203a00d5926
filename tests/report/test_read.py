"""Profiles as files: what is written is read, and what is wrong is said."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EdgeSdkError
from edge_sdk.report import read
from edge_sdk.report.read import ProfileError, parse_profile, read_profile, write_profile

from .profiles import KINDS, make_profile, shortened
from .strategies import profiles

BASE = json.dumps(shortened(make_profile()).record())


def changed(*keys: Any, to: Any) -> str:
    """A good profile's JSON with one value replaced; "drop" leaves it out."""
    record = json.loads(BASE)
    at = record
    for key in keys[:-1]:
        at = at[key]
    if to == "drop":
        del at[keys[-1]]
    else:
        at[keys[-1]] = to
    return json.dumps(record)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_as_it_was(tmp_path: Path, kind: Any) -> None:
    profile = make_profile(kind)
    write_profile(profile, tmp_path / "profile.json")
    assert read_profile(tmp_path / "profile.json") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


@given(profiles)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_profile_is_read_as_it_was(profile: Any) -> None:
    assert parse_profile(json.dumps(profile.record())) == profile


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_profile(make_profile(seconds=float("nan")), tmp_path / "profile.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "to", "says"),
    [
        (("latency", "queries"), "drop", "no key latency.queries"),
        (("energy", "windows", 3, "samples"), 1.5, "energy.windows[3].samples must be a whole number, not 1.5"),
        (("energy", "windows", 3, "samples"), True, "energy.windows[3].samples must be a whole number, not true"),
        (("energy", "windows", 0, "repeat"), 10**18, "energy.windows[0].repeat must be a whole number"),
        (("energy", "windows", 0, "kind"), "play", 'energy.windows[0].kind must be one of idle, work, not "play"'),
        (("energy", "windows", 0, "kind"), ["idle"], "energy.windows[0].kind must be one of idle, work, not a list"),
        (("energy", "method"), None, "energy.method must be one of counter, sensor_total"),
        (("energy", "idle_w"), 3.5, "energy.idle_w must be an object, not 3.5"),
        (("energy", "idle_w", "low"), 9.0, "energy.idle_w: its value is not between low and high"),
        (("energy", "rejected"), ["the board throttled"], "energy.rejected: a run that is rejected gives no energy"),
        (("energy", "windows", 1, "end_s"), 0.0, "energy.windows[1]: it ends before it starts"),
        (("energy", "watts"), 5, "unknown key energy.watts; a later version of edge-sdk may have written it"),
        (("latency", "times_ms", 7), None, "latency.times_ms[7] must be a number, not null"),
        (("latency", "times_ms", 7), "12", 'latency.times_ms[7] must be a number, not "12"'),
        (("latency", "times_ms", 7), -1.0, "latency.times_ms: a time is negative"),
        (("latency", "times_ms"), {}, "latency.times_ms must be a list, not an object"),
        (("latency", "stages_ms", "infer"), [1.0], "latency.stages_ms.infer must be an object, not a list"),
        (("channels", 0, "at_s"), [1.0], "channels[0]: 1 times in at_s, but"),
        (("channels", 0, "in_total"), 1, "channels[0].in_total must be true or false, not 1"),
        (("channels", 0, "power_w", 2), 1e300, "channels[0].power_w[2] must be a finite number, of a size that occurs"),
        (("conditions", 0, "at_s", 1), -5.0, "conditions[0].at_s: the times do not rise"),
        (("conditions", 0, "unit"), "k", "conditions[0].unit must be one of c, mhz, percent"),
        (("seconds",), -1.0, "seconds: the run has a negative length"),
        (("model",), [], "model must be an object, not a list"),
        (("created",), 20261121, "created must be a text, not 20261121"),
        (("notes",), "one", 'notes must be a list, not "one"'),
        (("schema",), "edge-sdk/profile/99", "is of schema edge-sdk/profile/99; this version of edge-sdk reads"),
        (("schema",), 1, "it has no key 'schema'"),
        (("x\x1b[2J",), 1, "unknown key x\ufffd[2J"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key(keys: tuple[Any, ...], to: Any, says: str) -> None:
    with pytest.raises(ProfileError) as error:
        parse_profile(changed(*keys, to=to))
    assert says in str(error.value)


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("keys", [("seconds",), ("model", "file_mib"), ("latency", "times_ms", 0)])
def test_a_number_that_is_none_is_refused(bad: str, keys: tuple[Any, ...]) -> None:
    text = changed(*keys, to="BAD").replace('"BAD"', bad)
    with pytest.raises(ProfileError, match=r"is no number|must be a finite number"):
        parse_profile(text)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b'"profile"', b"7" * 6000, b"[" * 200_000, b'{"schema": null}',
     b'{"a":' * 50_000, json.dumps({"schema": "edge-sdk/profile/1"}).encode()],
)  # fmt: skip
def test_what_is_no_profile_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(data)
    with pytest.raises(ProfileError) as error:
        read_profile(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < len(str(path)) + 300
    assert isinstance(error.value, EdgeSdkError)


def test_facts_that_are_nested_deeply_are_read_or_refused() -> None:
    text = changed("model", "name", to="DEEP").replace('"DEEP"', "[" * 900 + "]" * 900)
    with suppress(ProfileError):  # how deep is too deep is for this Python to say; anything else would be raised
        parse_profile(text)


@given(st.binary(max_size=200) | st.text(max_size=200))
@settings(max_examples=200)
def test_no_text_raises_anything_else(data: bytes | str) -> None:
    with pytest.raises(ProfileError):
        parse_profile(data)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=5)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value; of long lists the first three."""
    found = [at] if at else []
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, one in inner:
        found += places(one, (*at, key))
    return found


PLACES = places(json.loads(BASE))


@given(st.sampled_from(PLACES), JSON)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_anything_at_any_place_is_read_or_refused(keys: tuple[Any, ...], to: Any) -> None:
    with suppress(ProfileError):
        parse_profile(changed(*keys, to=to))


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read.MOST_BYTES == 100 * 2**20
    monkeypatch.setattr(read, "MOST_BYTES", 1000)
    write_profile(make_profile(), tmp_path / "profile.json")
    with pytest.raises(ProfileError, match="larger than the 0 MB"):
        read_profile(tmp_path / "profile.json")


def test_a_file_that_is_not_there_and_a_folder_are_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such file"):
        read_profile(tmp_path / "profile.json")
    with pytest.raises(ProfileError, match="is no file"):
        read_profile(tmp_path)
    with pytest.raises(ProfileError, match="is no file"):
        read_profile(Path("/dev/zero"))

"""URLs of sinks: what is in them, and what never shows."""

from __future__ import annotations

import socket
import ssl
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_sdk.errors import UsageError
from edge_sdk.sinks.address import Address, split_address, why_not

PORTS = {"mqtt": 1883, "mqtts": 8883}
EXAMPLE = "mqtt://host/topic"
SECRET = "t3rc3s"[::-1]  # tracebacks quote the lines of this file


def split(url: str) -> Address:
    return split_address(url, PORTS, example=EXAMPLE)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mqtt://host", ("mqtt", "host", 1883, "", None, None)),
        ("MQTTS://Host/", ("mqtts", "host", 8883, "/", None, None)),
        ("mqtt://host:99/a/b?c#d", ("mqtt", "host", 99, "/a/b?c#d", None, None)),
        ("mqtt://host?c", ("mqtt", "host", 1883, "?c", None, None)),
        ("mqtt://anna@host/a", ("mqtt", "host", 1883, "/a", "anna", None)),
        ("mqtt://anna:@host/a", ("mqtt", "host", 1883, "/a", "anna", b"")),
        ("mqtt://:token@host/a", ("mqtt", "host", 1883, "/a", "", b"token")),
        ("mqtt://an%20na:p%40%2F%ff@host/a", ("mqtt", "host", 1883, "/a", "an na", b"p@/\xff")),
        ("mqtt://anna:p@ss:word@host:1/a", ("mqtt", "host", 1, "/a", "anna", b"p@ss:word")),
        ("mqtt://[fe80::1]:7/a", ("mqtt", "fe80::1", 7, "/a", None, None)),
        ("mqtt://bücher.example/ä", ("mqtt", "bücher.example", 1883, "/ä", None, None)),
    ],
)
def test_a_url_is_taken_apart(url: str, found: tuple[object, ...]) -> None:
    address = split(url)
    parts = (address.scheme, address.host, address.port, address.tail, address.user, address.password)
    assert parts == found


def test_host_and_port_are_shown_as_one_writes_them() -> None:
    assert split("mqtt://host").place == "host:1883"
    assert split("mqtt://[::1]:7").place == "[::1]:7"


@pytest.mark.parametrize(
    "url",
    [
        "", "host", "mqtt", "mqtt:", "mqtt://", "mqtt:///topic", "mqtt://:99/a", "mqtt://host:no/a", "mqtt://host:0",
        "mqtt://host:70000", "mqtt://[::1", "mqtt://a b/c", "mqtt://host\n", "mqtt://host/\x00", "mqtt://a..b/c",
        "mqtt://" + "a" * 64 + "/c", "mqtt://host/" + "a" * 70_000, "mqtt://\udcff/a", "http://host/", "mqtt://user:1/x@h",
    ],
)  # fmt: skip
def test_a_url_that_makes_no_sense_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match=f"; such as {EXAMPLE}$"):
        split(url)


def test_another_scheme_is_named() -> None:
    with pytest.raises(UsageError, match="begins with mqtt:// or mqtts://, not with http://;"):
        split("http://host")


@given(
    st.sampled_from(
        [
            "mqtt://anna:{}@host/a", "mqtt://{}@host/a", "mqtt://anna:{}@host:no/a", "mqtt://anna:{}@host\n",
            "mqtt://anna:{}@ho st/", "mqtt://anna:{}@", "mqtt://anna:1/{}@host", "mqtt://anna:1?{}@host",
            "mqtt://anna:1#{}@host", "http://anna:{}@host", "mqtt:/anna:{}@host", "anna:{}@host", "{}",
        ]
    ),
    st.text(),
    st.text(),
)  # fmt: skip
@example("mqtt://anna:{}@host/a", "", "\uff03")  # which urllib refuses, quoting it
def test_nothing_shows_a_password_however_it_is_written(form: str, before: str, after: str) -> None:
    try:
        address = split(form.format(before + SECRET + after))
        shown = repr(address) + str(address) + address.place
    except UsageError as error:
        shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown


@given(st.text(), st.binary())
def test_what_is_percent_encoded_comes_back(user: str, password: bytes) -> None:
    address = split(f"mqtt://{quote(user, safe='')}:{quote(password, safe='')}@host/a")
    assert (address.user, address.password, address.host) == (user, password, "host")
    shown = repr(address) + address.place
    assert shown == "Address(scheme='mqtt', host='host', port=1883)host:1883"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "host refuses connections on port 1883; does it run"),
        (TimeoutError(), "no answer within 2.5 s"),
        (socket.gaierror(-2, "Name or service not known"), "no host host; check the name"),
        (UnicodeError("label too long"), "no host host; check the name"),
        (ssl.SSLError(1, "[SSL] record layer failure"), "port 1883 speaks no TLS that fits"),
        (OSError(113, "No route to host"), "No route to host; check the address"),
        (ConnectionResetError("gone\nfor good"), "gone for good; check"),
    ],
)
def test_a_reason_says_how_to_mend_it(error: OSError, says: str) -> None:
    reason = why_not(error, split("mqtt://host/a"), 2.5)
    assert reason.startswith(says)
    assert "\n" not in reason

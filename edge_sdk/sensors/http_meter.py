"""JSON over HTTP from a plug or meter in the house: one GET at a time, on one connection, within one time limit.

Passwords are given to the meter that asks for one, and stand in no message and no name.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Value, plausible

TIMEOUT_S = 2.0
MOST_BYTES = 64 * 1024
SIGNED_IN = "USER:PASSWORD@HOST"
_MOST_HEADER = 2048
_REFUSED = "the meter refuses this user and password"
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}(?:%\w{1,16})?\]|[A-Za-z0-9_.-]{1,253})(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class MeterAddress:
    """Where a meter is.

    Args:
        host: A name or an IP address, without brackets.
        port: TCP.
        path: What follows the host, without its slashes: the channel.
        user: Empty where none was given.
        password: None where none was given.
    """

    host: str
    port: int = 80
    path: str = ""
    user: str = ""
    password: str | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """As it may be shown: host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"

    def channel(self, usage: str) -> int | None:
        """The channel that the path names, counted as the meter counts; None where it names none.

        Raises:
            UsageError: It is no number of at most three digits.
        """
        if not self.path:
            return None
        if not (self.path.isascii() and self.path.isdigit() and len(self.path) < 4):
            raise UsageError(f"a meter's channel is a number: {usage}")
        return int(self.path)


def meter_address(text: str, usage: str) -> MeterAddress:
    """Reads ``[http://][USER:PASSWORD@]HOST[:PORT][/PATH]``.

    A password may hold any character: what is before the last ``@`` is user and password.

    Args:
        text: What the user wrote after the driver's name.
        usage: For the message, such as "shelly:HOST[/CHANNEL]".

    Raises:
        UsageError: It is no such address; the message does not repeat it, because a password may be in it.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() != "http":
        raise UsageError(f"meters are read over http://, as {usage}")
    credentials, at, place = (rest if separator else text).rpartition("@")
    where, _, path = place.partition("/")
    found = _HOST.fullmatch(where)
    if found is None or not 0 < int(found["port"] or 80) < 65536:
        raise UsageError(f"not the address of a meter; it is written {usage}, or with {SIGNED_IN}")
    user, colon, password = credentials.partition(":")
    if at and not colon:
        raise UsageError(f"a user without a password; it is written {SIGNED_IN}")
    if not (user.isascii() and credentials.isprintable()):
        raise UsageError("a user or a password with characters that cannot be sent")
    return MeterAddress(
        found["host"].strip("[]"), int(found["port"] or 80), path.strip("/"), user, password if at else None
    )


class HttpMeter:
    """Asks a meter, again and again over one connection where the meter keeps it open; used by one thread at a time.

    Args:
        address: Whose user and password are given where the meter asks for them: digest (RFC 7616, SHA-256, as Shelly
            Gen2 and later) or basic (as Shelly Gen1).
        timeout_s: For one whole answer, however slowly it trickles in. Looking up a name is the system's business and
            is not in it.
        user: Whom to be where the address has a password and no user.
    """

    def __init__(self, address: MeterAddress, *, timeout_s: float = TIMEOUT_S, user: str = "admin") -> None:
        self.label = address.label
        self._address = address
        self._timeout_s = timeout_s
        self._user = address.user or user
        self._connection: _Connection | None = None
        self._sign_in: Callable[[str], str] | None = None
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._closed = False

    def get(self, target: str) -> Any:
        """What a GET of `target` gives, from JSON; numbers with a point as `Decimal`, so that their digits are kept.

        Raises:
            SensorError: No answer in time, an answer that is not 200, or no JSON of at most 64 KiB.
        """
        with self._busy:
            try:
                return self._get(target, time.monotonic() + self._timeout_s)
            finally:
                if self._closed and self._connection is not None:
                    self._drop(self._connection)

    def close(self) -> None:
        """Hangs up, and at once ends a `get` that is under way in another thread; may be called twice."""
        with self._lock:
            self._closed = True
            connection = self._connection
        if connection is not None:
            connection.hang_up()
        if self._busy.acquire(timeout=self._timeout_s):  # a get that still looks for a name cleans up itself, later
            try:
                if self._connection is not None:
                    self._drop(self._connection)
            finally:
                self._busy.release()

    def _get(self, target: str, deadline: float) -> Any:
        try:
            status, challenge, body = self._ask(target, deadline)
            if status == 401:
                self._sign_in = self._answer_to(challenge)
                status, _, body = self._ask(target, deadline)
        except SensorError:  # an OSError itself
            raise
        except TimeoutError as error:
            raise SensorError(f"{self.label}: no answer within {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SensorError(f"{self.label}: {_why(error)}") from None  # its text may quote what we sent
        if status == 401:
            self._sign_in = None
            raise SensorError(f"{self.label}: {_REFUSED}")
        if 300 <= status < 400:
            raise SensorError(f"{self.label}: the answer is a redirection (HTTP {status}), which is not followed")
        if status != 200:
            raise SensorError(f"{self.label}: HTTP {status}")
        return self._parsed(body)

    def _ask(self, target: str, deadline: float) -> tuple[int, str, bytes]:
        """Status, challenge and body; once more on a new connection where an old one turns out to be dead."""
        while True:
            used = self._connection
            connection = self._open(deadline) if used is None else used
            connection.deadline = deadline
            try:
                headers = {"Accept": "application/json", "User-Agent": "edge-sdk"}
                if self._sign_in is not None:
                    headers["Authorization"] = self._sign_in(target)
                connection.request("GET", target, headers=headers)
                return self._answer(connection)
            except ConnectionError:
                self._drop(connection)
                if used is None:
                    raise
            except BaseException:
                self._drop(connection)
                raise

    def _answer(self, connection: _Connection) -> tuple[int, str, bytes]:
        response = connection.getresponse()
        challenges = response.headers.get_all("WWW-Authenticate") or []
        body = response.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES or not response.isclosed():  # more than we want: nobody reads the rest
            self._drop(connection)
        return response.status, ", ".join(challenges), body

    def _open(self, deadline: float) -> _Connection:
        connection = _Connection(self._address.host, self._address.port, timeout=self._timeout_s)
        connection.deadline = deadline
        with self._lock:
            if self._closed:
                raise SensorError(f"{self.label}: closed")
            self._connection = connection
        return connection

    def _drop(self, connection: _Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.close()

    def _answer_to(self, challenge: str) -> Callable[[str], str]:
        """Gives the header with which a target is asked for."""
        password = self._address.password
        if password is None:
            raise SensorError(f"{self.label}: the meter asks for a password; write {SIGNED_IN}")
        if not challenge:  # it does not say how: as Tasmota, to which the query has said both already
            raise SensorError(f"{self.label}: {_REFUSED}")
        found = digest_challenge(challenge)
        if found is not None:
            return Digest(found, self._user, password)
        if re.search(r"(?:^|,)\s*basic\b", challenge[:_MOST_HEADER], re.IGNORECASE):
            header = f"Basic {base64.b64encode(f'{self._user}:{password}'.encode()).decode()}"
            return lambda _: header
        raise SensorError(f"{self.label}: the meter asks for a way of signing in that is not digest SHA-256 or basic")

    def _parsed(self, body: bytes) -> Any:
        if len(body) > MOST_BYTES:
            raise SensorError(f"{self.label}: the answer is longer than {MOST_BYTES // 1024} KiB: not a meter")
        try:
            return json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
        except (ValueError, ArithmeticError, RecursionError) as error:  # wrong text, exponents, nesting
            raise SensorError(f"{self.label}: the answer is no JSON") from error


def json_watts(value: object) -> Value:
    """A power out of JSON, or why it is none: anything but a number is not data."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return Absent("the meter gives no power" if value is None else "the meter gives something that is no number")
    try:
        return plausible(float(value))
    except (ValueError, OverflowError):  # more digits than any power has
        return Absent("not a number")


@dataclass(frozen=True)
class DigestChallenge:
    """What RFC 7616 wants to be answered."""

    realm: str
    nonce: str
    opaque: str | None


def digest_challenge(header: str) -> DigestChallenge | None:
    """The digest challenge with SHA-256 and "auth" in a WWW-Authenticate header; None where there is none."""
    for part in re.split(r"(?i)(?:^|,)\s*(?=(?:digest|basic)\b)", header[:_MOST_HEADER]):
        if not part.lower().startswith("digest"):
            continue
        pairs = re.findall(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s",]+))', part)
        fields = {name.lower(): quoted or plain for name, quoted, plain in pairs}
        qop = [one.strip().lower() for one in fields.get("qop", "").split(",")]
        if fields.get("algorithm", "").upper() == "SHA-256" and "auth" in qop and fields.get("nonce"):
            return DigestChallenge(fields.get("realm", ""), fields["nonce"], fields.get("opaque"))
    return None


class Digest:
    """Answers a challenge, for one request after another: each counts the nonce up, as RFC 7616 3.4 has it."""

    def __init__(self, challenge: DigestChallenge, user: str, password: str) -> None:
        self._challenge = challenge
        self._user = user
        self._secret = _sha256(f"{user}:{challenge.realm}:{password}")
        self._count = 0

    def __call__(self, target: str, cnonce: str | None = None) -> str:
        """The value of the Authorization header of a GET."""
        self._count += 1
        nonce, count, cnonce = self._challenge.nonce, f"{self._count:08x}", cnonce or secrets.token_hex(8)
        response = _sha256(f"{self._secret}:{nonce}:{count}:{cnonce}:auth:{_sha256(f'GET:{target}')}")
        opaque = "" if self._challenge.opaque is None else f', opaque="{self._challenge.opaque}"'
        return (
            f'Digest username="{_escaped(self._user)}", realm="{self._challenge.realm}", nonce="{nonce}", '
            f'uri="{target}", algorithm=SHA-256, qop=auth, nc={count}, cnonce="{cnonce}", response="{response}"{opaque}'
        )


class _Connection(http.client.HTTPConnection):
    """A connection whose every read and write ends at a deadline: a socket's own timeout begins anew at each byte."""

    deadline = 0.0

    def connect(self) -> None:
        """Connects to the first of the host's addresses that answers."""
        places = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for turn, (family, kind, protocol, _, place) in enumerate(places, start=1):
            real = socket.socket(family, kind, protocol)
            try:
                real.settimeout(_left(self.deadline) / (len(places) - turn + 1))
                real.connect(place)
                real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                real.close()
                if turn == len(places):
                    raise
            else:
                self.sock = _Socket(real, self)
                return

    def hang_up(self) -> None:
        """Ends it for a thread that waits on it, too."""
        sock = self.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Socket:
    """As much of a socket as http.client uses, with the deadline of its connection."""

    def __init__(self, real: socket.socket, owner: _Connection) -> None:
        self._real = real
        self._owner = owner

    def sendall(self, data: bytes) -> None:
        self._real.settimeout(_left(self._owner.deadline))
        self._real.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode  # always "rb"
        return io.BufferedReader(_Incoming(self._real, self._owner))

    def shutdown(self, how: int) -> None:
        self._real.shutdown(how)

    def close(self) -> None:
        self._real.close()  # what `makefile` gave goes on until it is closed too, as http.client expects


class _Incoming(io.RawIOBase):
    def __init__(self, real: socket.socket, owner: _Connection) -> None:
        self._real = real
        self._owner = owner
        self._raw = real.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._real.settimeout(_left(self._owner.deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, ConnectionRefusedError):
        return "nothing answers there (connection refused)"
    if isinstance(error, ConnectionError):
        return "the connection broke off"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be reached"
    return "the answer is no HTTP"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')

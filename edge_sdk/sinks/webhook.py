"""Results to a web server: each one is posted as JSON."""

from __future__ import annotations

import base64
import email.utils
import http.client
import json
import math
import random
import re
import select
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from edge_sdk import __version__
from edge_sdk.errors import SinkError, UsageError
from edge_sdk.result import Event, Result
from edge_sdk.sinks.address import split_address, why_not
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.jsonl import as_record
from edge_sdk.sources.base import without_credentials

PORTS = {"http": 80, "https": 443}
EXAMPLE = "https://user:password@host/path"

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
# An answer is read so that the connection can serve the next result; nobody looks at it.
_ANSWER_BYTES = 1 << 16
_LOCATION = 300  # characters of where a redirect leads to
_CLOSE_S = 1.0
# These are this sink's own: with others, the server would read past the end of a post, or take two for one.
_OWN_HEADERS = ("content-length", "transfer-encoding", "idempotency-key")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class WebhookSink(Sink):
    """Posts results to a web server, each as the JSON object that `as_record` makes.

    What fails for the moment is tried again, after a wait that doubles: no connection, no answer in time, and the
    statuses 429 and 5xx, whose Retry-After is kept to up to 30 s. A post has a header ``Idempotency-Key``, the same in
    each attempt at one result: a server that has seen the key already has the result. Redirects are not followed.

    Args:
        url: ``https://user:password@host/path``; user and password are sent as Basic authorisation.
        class_names: Names by class id.
        every_s: Least seconds between two posts; results in between are left out, which is no failure.
        empty: Post results without detections too.
        events: Post each change of the camera's state too: ``event``, ``previous``, ``at_ns``, ``reason``.
        timeout_s: For one attempt, from the connection to the answer.
        attempts: At one result.
        headers: More headers, such as one with a token.

    Attributes:
        name: Scheme, host and port. The path is left out: services have their keys in it.

    Raises:
        UsageError: The URL, a header or a figure makes no sense.
    """

    interruptible = True

    def __init__(
        self,
        url: str,
        class_names: Sequence[str],
        *,
        every_s: float = 0.0,
        empty: bool = False,
        events: bool = False,
        timeout_s: float = 5.0,
        attempts: int = 3,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not 0 <= every_s < math.inf:
            raise UsageError(f"every_s must be 0 or above, not {every_s}")
        if not 0 < timeout_s <= 3600:
            raise UsageError(f"timeout_s must be above 0 and at most 3600, not {timeout_s}")
        if attempts < 1:
            raise UsageError(f"attempts must be 1 or more, not {attempts}")
        self._address = address = split_address(url, PORTS, example=EXAMPLE)
        self.name = f"{address.scheme}://{address.place}"
        path = address.tail.partition("#")[0]
        self._target = quote(path if path.startswith("/") else f"/{path}", safe="/?:@!$&'()*+,;=%~[]")
        self._names = class_names
        self._every_s = every_s
        self._empty = empty
        self._events = events
        self._timeout_s = timeout_s
        self._attempts = attempts
        own = {"Content-Type": "application/json", "User-Agent": f"edge-sdk/{__version__}"}
        if address.user is not None:
            secret = address.user.encode() + b":" + (address.password or b"")
            own["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        self._headers = _merged(own, headers or {})
        self._tls = ssl.create_default_context() if address.scheme == "https" else None
        self._posted_s = -math.inf
        self._busy = threading.Lock()  # held while something is posted
        self._connection: http.client.HTTPConnection | None = None
        self._line: socket.socket | None = None  # the connection's socket once more: to hang up from any thread
        self._line_lock = threading.Lock()
        self._closing = threading.Event()

    def put(self, result: Result) -> None:
        """Posts a result that is due, or leaves it out.

        Raises:
            SinkError: The server does not take it.
        """
        now_s = time.monotonic()
        if (len(result.detections) == 0 and not self._empty) or now_s - self._posted_s < self._every_s:
            return
        self._posted_s = now_s
        self._post(as_record(result, self._names))

    def event(self, event: Event) -> None:
        """Posts a change of the camera's state, where events are asked for.

        Raises:
            SinkError: The server does not take it.
        """
        if self._events:
            record = asdict(event)
            self._post({"event": record.pop("state"), **record})

    def close(self) -> None:
        """Hangs up; what another thread is posting fails at once. May be called twice."""
        self._closing.set()
        self._hang_up()
        if self._busy.acquire(timeout=_CLOSE_S):  # else that thread is about to connect, and drops it by itself
            self._drop()
            self._busy.release()

    # --- posts ---------------------------------------------------------------------------------------

    def _post(self, record: Mapping[str, Any]) -> None:
        body = json.dumps(record).encode()
        headers = {**self._headers, "Idempotency-Key": uuid.uuid4().hex}
        reason, wait_s = "", 0.0
        with self._busy:
            for attempt in range(self._attempts):
                if attempt:
                    backoff_s = _FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                    self._closing.wait(min(max(backoff_s, wait_s), _LONGEST_WAIT_S))
                if self._closing.is_set():
                    break
                reason, wait_s = self._attempt(body, headers)
                if not reason:
                    return
        if self._closing.is_set():
            raise SinkError("the sink is closed")
        tries = f"{self._attempts} attempts" if self._attempts > 1 else "one attempt"
        raise SinkError(f"the server {self._address.place} has not taken it in {tries}: {reason}")

    def _attempt(self, body: bytes, headers: Mapping[str, str]) -> tuple[str, float]:
        """Posts once: why that failed for the moment, and how long the server wants to be left alone.

        Raises:
            SinkError: It failed for good.
        """
        until_s = time.monotonic() + self._timeout_s
        # A socket's own time limit is for a piece, and a server may answer in as many pieces as there are bytes.
        limit = threading.Timer(self._timeout_s, self._hang_up)
        limit.start()
        kept = False
        try:
            connection = self._connected(until_s)
            connection.request("POST", self._target, body, dict(headers))
            response = connection.getresponse()
            kept = _read_to_its_end(response) and connection.sock is not None
        except ssl.SSLCertVerificationError as error:
            raise SinkError(f"no connection to {self._address.place}: {self._why(error)}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            return self._why(TimeoutError() if time.monotonic() >= until_s else error), 0.0
        finally:
            limit.cancel()
            limit.join()
            if not kept:
                self._drop()
        if 200 <= response.status < 300:
            return "", 0.0
        answer = f"{response.status} {_PHRASES.get(response.status, '')}".rstrip()
        if response.status == HTTPStatus.TOO_MANY_REQUESTS or response.status >= 500:
            return f"it answers {answer}", _seconds(response.getheader("Retry-After", ""))
        raise SinkError(f"the server {self._address.place} answers {answer}: {self._mend(response)}")

    def _why(self, error: Exception) -> str:
        if isinstance(error, (OSError, UnicodeError)):
            return why_not(error, self._address, self._timeout_s)
        return f"its answer cannot be understood ({type(error).__name__}); is it a web server?"

    def _mend(self, response: http.client.HTTPResponse) -> str:
        if 300 <= response.status < 400:
            location = response.getheader("Location", "")[:_LOCATION]
            place = "".join(filter(str.isprintable, without_credentials(location)))
            if len(self._target) > 1:  # which may be secret, and is known to who reads this
                place = place.replace(self._target, "/...")
            return f"redirects are not followed, give the address that it names: {place or 'none'}"
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return "check user and password, or the token"
        return "check the path of the address, and what the server takes"

    # --- the connection ------------------------------------------------------------------------------

    def _connected(self, until_s: float) -> http.client.HTTPConnection:
        """The connection of the last post, or a new one where the server has ended that meanwhile."""
        if self._connection is not None and not _has_something(self._connection.sock):
            return self._connection
        self._drop()
        host, port = self._address.host, self._address.port
        line = socket.create_connection((host, port), timeout=self._timeout_s)
        with self._line_lock:
            self._line = line.dup()
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port)
        else:
            connection = http.client.HTTPSConnection(host, port, context=self._tls)
        connection.auto_open = 0  # here alone connections are made
        connection.sock = line
        self._connection = connection
        if self._closing.is_set() or time.monotonic() >= until_s:
            raise TimeoutError  # whoever wanted to hang up had nothing yet to hang up
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection.sock = self._tls.wrap_socket(line, server_hostname=host)
        return connection

    def _hang_up(self) -> None:
        """Ends what is going over the connection; any thread may ask for it."""
        with self._line_lock, suppress(OSError):
            if self._line is not None:
                self._line.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        with self._line_lock:
            if self._line is not None:
                self._line.close()
                self._line = None


def _merged(own: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """The sink's headers and the user's, which win. Values may be secret: errors name none."""
    for name, value in more.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or name.lower() in _OWN_HEADERS:
            raise UsageError(f"{name!r} is no header that can be given; such as headers={{'X-Token': '...'}}")
        if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", value):
            raise UsageError(f"the value of the header {name} has characters that no header has, such as a line break")
        if name.lower() == "authorization" and "Authorization" in own:
            raise UsageError("give user and password in the address, or a header Authorization, not both")
    given = {name.lower() for name in more}
    return {**{name: value for name, value in own.items() if name.lower() not in given}, **more}


def _has_something(connection: socket.socket) -> bool:
    """Whether a connection over which nothing is due has something to read: its end, as a rule."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _read_to_its_end(response: http.client.HTTPResponse) -> bool:
    """Whether the answer ended within what one reads of it, so that another can follow on the same connection."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        response.read(_ANSWER_BYTES)
        if response.isclosed():
            return True
    response.close()
    return False


def _seconds(retry_after: str) -> float:
    """What a header Retry-After asks for, in seconds: it has them, or a date; 0 where it has neither."""
    if retry_after.isdecimal() and len(retry_after) < 10:
        return float(retry_after)
    with suppress(TypeError, ValueError, OverflowError):
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    return 0.0

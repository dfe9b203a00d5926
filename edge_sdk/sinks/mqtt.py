"""Results to an MQTT broker."""

from __future__ import annotations

import json
import logging
import random
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import unquote

from edge_sdk.errors import MissingDependencyError, SinkError, UsageError, extra_hint
from edge_sdk.result import Event, Result
from edge_sdk.sinks.address import Address, split_address, why_not
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.jsonl import as_record

log = logging.getLogger("edge_sdk")

PORTS = {"mqtt": 1883, "mqtts": 8883}
EXAMPLE = "mqtt://user:password@host:1883/prefix/of/topic"

# A broker publishes the last will one and a half times this after the last sign of life.
_KEEPALIVE_S = 15
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
# A connection that held for so long was a good one: the next loss is a new one, and is said again.
_STABLE_S = 10.0
_GOODBYE_S = 1.0
_SLICE_S = 0.25  # how long a lost connection may go unnoticed by whoever waits


class MqttSink(Sink):
    """Publishes each result as JSON, and the camera's state.

    Topics under the URL's path: ``result`` has an object a result, as `as_record` makes it. ``state``, retained, has
    the camera's state in a word ("streaming", "reconnecting", ...): "stopped" or "failed" when it ended in order, and
    "offline", as last will, when it vanished. ``counts``, retained, has those of zones and lines whenever they change.

    The connection is made in the background, and made again whenever it is lost. While there is none, results are
    lost, each with a `SinkError`: nothing is queued, so that what arrives is what is seen now.

    Args:
        url: ``mqtt://user:password@host:1883/prefix/of/topic``; ``mqtts://`` for TLS, with port 8883, where the
            broker's certificate is checked against the system's, or those in the file that SSL_CERT_FILE names.
            Without a path, topics begin with ``edge-sdk/<name of this machine>``.
        class_names: Names by class id.
        qos: Of results: 0 counts one as written when the system has taken it to send, 1 and 2 when the broker has.
        connect_timeout_s: For a connection, and for the broker to take one result.

    Raises:
        UsageError: The URL, the topic or a figure makes no sense.
        MissingDependencyError: paho-mqtt is not installed.
    """

    interruptible = True

    def __init__(
        self, url: str, class_names: Sequence[str], *, qos: Literal[0, 1, 2] = 0, connect_timeout_s: float = 5.0
    ) -> None:
        if qos not in (0, 1, 2):
            raise UsageError(f"qos is 0, 1 or 2, not {qos}")
        if not 0 < connect_timeout_s <= 3600:
            raise UsageError(f"connect_timeout_s must be above 0 and at most 3600, not {connect_timeout_s}")
        self._address = split_address(url, PORTS, example=EXAMPLE)
        self._prefix = _prefix(self._address)
        self.name = f"{self._address.scheme}://{self._address.place}/{self._prefix}"
        self._names = class_names
        self._qos = qos
        self._timeout_s = connect_timeout_s
        self._paho = _paho()
        self._tls = ssl.create_default_context() if self._address.scheme == "mqtts" else None
        # Its own for as long as the sink lives: with a new one each time, the will of a connection that the broker
        # does not yet know to be dead would overwrite the state that the next one has published.
        self._client_id = f"edge-sdk-{secrets.token_hex(6)}"
        self._lock = threading.Lock()  # held to change what follows, and to publish: the last state is the last said
        self._client: Any = None  # while it is connected
        self._state = "starting"
        self._counts: str | None = None
        self._reason = "it has not answered yet"
        self._said: set[str] = set()
        self._closed = False
        self._tried = threading.Event()  # the first attempt has come to its end
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_connected, name="edge-sdk-mqtt", daemon=True)
        self._thread.start()

    def put(self, result: Result) -> None:
        """Publishes one result.

        Raises:
            SinkError: There is no connection, or the broker does not take it.
        """
        self._tried.wait(self._timeout_s)  # else a run over one photo would be over before it is connected
        self._tried.set()
        if self._state == "starting":  # where nobody tells of events, a result tells as much
            self._change_state("streaming")
        counts = json.dumps(dict(result.counts)) if result.counts else self._counts
        changed, self._counts = counts != self._counts, counts
        if self._client is None:
            raise self._unconnected()
        self._deliver("result", json.dumps(as_record(result, self._names)), self._qos, retain=False)
        if changed and counts is not None:
            self._deliver("counts", counts, 1, retain=True)

    def event(self, event: Event) -> None:
        """Publishes the camera's state, or remembers it for the next connection."""
        self._change_state(event.state)

    def close(self) -> None:
        """Says "stopped", and hangs up; takes about a second where the broker hangs. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._state not in ("stopped", "failed"):
            self._change_state("stopped", within_s=_GOODBYE_S)
        self._closing.set()  # what is not connected yet, will not be
        with self._lock:
            client = self._client
        if client is not None:
            client.disconnect()  # which wakes the thread too
            with self._lock:
                self._client = None
        self._tried.set()
        # One that looks up a name or waits for a host to answer cannot be woken; it ends by itself, within its limits.
        self._thread.join(_GOODBYE_S)

    # --- what the sink's own thread says -------------------------------------------------------------

    def _change_state(self, state: str, within_s: float | None = None) -> None:
        with self._lock:
            self._state = state
        with suppress(SinkError):  # it is published with the next connection
            self._deliver("state", state, 1, retain=True, within_s=within_s)

    def _deliver(self, topic: str, text: str, qos: int, *, retain: bool, within_s: float | None = None) -> None:
        """Publishes and waits until that is done, so that one message at most is on its way.

        Raises:
            SinkError: It is not.
        """
        until = time.monotonic() + (within_s or self._timeout_s)
        with self._lock:
            client = self._client
            if client is None:
                raise self._unconnected()
            sent = client.publish(f"{self._prefix}/{topic}", text, qos=qos, retain=retain)
        with suppress(RuntimeError):  # paho's word for a connection that has just gone
            while self._client is client:
                sent.wait_for_publish(_SLICE_S)
                if sent.is_published():
                    return
                if time.monotonic() >= until:
                    self._give_up(client)
        raise self._unconnected()

    def _give_up(self, client: Any) -> None:
        """Lets go of a connection over which nothing goes: the thread sees that, and makes another."""
        with self._lock:
            if self._client is client:
                self._client = None
                self._reason = f"it has taken nothing for {self._timeout_s:g} s"

    def _unconnected(self) -> SinkError:
        reason = "the sink is closed" if self._closed else self._reason
        return SinkError(f"no connection to the broker {self._address.place}: {reason}")

    # --- the thread that holds the connection --------------------------------------------------------

    def _keep_connected(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._closing.is_set():
            held_s, reason = self._connect()
            if held_s >= _STABLE_S:
                wait_s = _FIRST_WAIT_S
                self._said.clear()
            self._fail(reason)
            self._tried.set()
            self._closing.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  so that not all boards come at once
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _connect(self) -> tuple[float, str]:
        """One connection, from its beginning to its end: the seconds that it held, and why it ended.

        A client of paho serves one connection, so that nothing of an earlier one is sent again. It is driven from
        here rather than by its own thread, which hides why it cannot connect, dies of what it does not understand,
        and cannot be stopped while a message waits.
        """
        refusals: list[str] = []
        client = self._new_client(refusals)
        connected_at: float | None = None
        reason = ""
        try:
            until = time.monotonic() + self._timeout_s
            client.connect(self._address.host, self._address.port, keepalive=_KEEPALIVE_S)
            while client.loop(_SLICE_S) == 0:
                if client.is_connected():
                    connected_at = connected_at or time.monotonic()
                if connected_at is not None:
                    if self._client is not client:
                        break
                elif self._closing.is_set():
                    break
                elif time.monotonic() >= until:
                    reason = f"something is there, but does not answer as a broker within {self._timeout_s:g} s"
                    break
            if self._closing.is_set():
                client.disconnect()  # in good order, else the broker publishes the will
            client.loop_write()  # what is left, as far as it goes without waiting
        except Exception as error:  # noqa: BLE001  a broker's nonsense makes paho stumble in many ways
            reason = self._why(error)
        connection = client.socket()
        if connection is not None:
            connection.close()
        if connected_at is None:
            silent = f"it hung up without an answer; is port {self._address.port} that of MQTT, with or without TLS?"
            return 0.0, next(iter(refusals), reason or silent)
        with self._lock:
            if self._client is client:  # else it was given up, and why is there already
                self._client = None
                self._reason = reason or "the connection was lost"
            return time.monotonic() - connected_at, self._reason

    def _new_client(self, refusals: list[str]) -> Any:
        """A client that keeps nothing of earlier connections, and says in `refusals` why it was refused."""

        def answered(client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
            if code.is_failure:
                refusals.append(self._why_refused(str(code)))
                return
            with self._lock:
                if self._closing.is_set():
                    return
                self._client = client
                client.publish(f"{self._prefix}/state", self._state, qos=1, retain=True)
                if self._counts is not None:  # a broker that was started anew has forgotten them
                    client.publish(f"{self._prefix}/counts", self._counts, qos=1, retain=True)
            log.info("%s: connected", self.name)
            self._tried.set()

        client = self._paho.Client(self._paho.CallbackAPIVersion.VERSION2, client_id=self._client_id)
        client.connect_timeout = self._timeout_s
        client.on_connect = answered
        # With this set, publish() leaves the writing to the thread: two that write would mix their packets.
        client.on_socket_register_write = _leave_to_the_loop
        client.will_set(f"{self._prefix}/state", "offline", qos=1, retain=True)
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        return client

    def _fail(self, reason: str) -> None:
        """Keeps the reason for whoever puts results; warns of each once, however often it comes back."""
        with self._lock:
            if self._closed:
                return
            self._reason = reason
        if reason not in self._said:
            self._said.add(reason)
            log.warning("%s: no connection to the broker: %s; it is tried again until there is one", self.name, reason)

    def _why(self, error: Exception) -> str:
        if isinstance(error, (OSError, UnicodeError)):
            return why_not(error, self._address, self._timeout_s)
        return f"its answer cannot be understood ({type(error).__name__}); is it an MQTT broker?"

    def _why_refused(self, answer: str) -> str:
        if answer not in ("Bad user name or password", "Not authorized"):
            return f"it refuses this client ({answer})"
        mend = (
            f"give them as {EXAMPLE}" if self._address.user is None else "check both, and %-encode special characters"
        )
        return f"it refuses the user name and password ({answer}); {mend}"


def _leave_to_the_loop(client: Any, data: Any, connection: Any) -> None:
    """The loop's own wake-up is enough."""


def _prefix(address: Address) -> str:
    """The topic that the URL names, without slashes around it."""
    try:
        topic = unquote(address.tail, errors="strict").strip("/")
    except UnicodeError:
        raise UsageError(f"the topic in the broker's address is not UTF-8; such as {EXAMPLE}") from None
    if "?" in address.tail:
        raise UsageError(f"the topic in the broker's address has a '?': write it as %3F; such as {EXAMPLE}")
    if {"+", "#"} & {*topic, *address.tail}:
        raise UsageError(
            "the topic in the broker's address has a '+' or '#', which one can subscribe to, but not publish to; "
            f"such as {EXAMPLE}"
        )
    if not topic.isprintable():
        raise UsageError(f"the topic in the broker's address has characters that no topic has; such as {EXAMPLE}")
    return topic or f"edge-sdk/{re.sub(r'[^A-Za-z0-9._-]', '-', socket.gethostname()) or 'camera'}"


def _paho() -> Any:
    try:
        from paho.mqtt import client
    except ImportError as error:
        raise MissingDependencyError(f"paho-mqtt is not installed: {extra_hint('mqtt')}") from error
    if not hasattr(client, "CallbackAPIVersion"):
        raise MissingDependencyError(f"paho-mqtt is older than 2.0: {extra_hint('mqtt')}")
    return client

"""Results at a real Mosquitto broker that stops, hangs, refuses and comes back."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import Detections, Result
from edge_sdk.errors import MissingDependencyError, SinkError, UsageError
from edge_sdk.result import Event
from edge_sdk.sinks.mqtt import MqttSink

NAMES = ("person", "bear")
IMAGE = np.zeros((0, 0, 3), np.uint8)
PATIENCE_S = 20.0
MakeResult = Callable[..., Result]

mqtt = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: pip install 'edge-sdk[mqtt]'")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def bear() -> Detections:
    return Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0.75], np.float32), np.array([1], np.int32))


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


def takes(sink: MqttSink, result: Result) -> bool:
    try:
        sink.put(result)
    except SinkError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A Mosquitto of its own on loopback, which can be stopped and started again."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}/shop/door"
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "user root", *(settings or ["allow_anonymous true"])]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(MOSQUITTO), "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens, "the broker")

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Mosquitto ended at once"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """Another client, which writes down all that is published: topic, text, and whether it was retained."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, str, bool]] = []
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _, __, one: self.heard.append((one.topic, one.payload.decode(), one.retain))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S)

    def of(self, topic: str) -> list[str]:
        return [text for name, text, _ in self.heard if name == f"shop/door/{topic}"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """``make_broker("setting value", ...)`` -> a broker that is not started yet."""
    if MOSQUITTO is None:
        pytest.skip("there is no Mosquitto to test with: apt install mosquitto")
    with ExitStack() as stack:

        def make(*settings: str) -> Broker:
            made = Broker(tmp_path, *settings)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A running broker that takes everybody."""
    running = make_broker()
    running.start()
    return running


@pytest.fixture
def listen() -> Iterator[Callable[[int], Listener]]:
    """``listen(port)`` -> a client that hears all, closed at the end."""
    with ExitStack() as stack:

        def begin(port: int) -> Listener:
            listener = Listener(port)
            stack.callback(listener.close)
            return listener

        yield begin


def retained(listen: Callable[[int], Listener], broker: Broker, topic: str) -> str | None:
    """What the broker keeps under a topic, as one hears who comes now."""
    late = listen(broker.port)
    with suppress(AssertionError):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and not late.of(topic):
            time.sleep(0.02)
    return next((text for name, text, kept in late.heard if name == f"shop/door/{topic}" and kept), None)


# --- what is published ---------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_result_arrives_as_one_object(broker, listen, make_result: MakeResult, qos) -> None:
    listener = listen(broker.port)
    with MqttSink(broker.url, NAMES, qos=qos) as sink:
        for number in range(50):
            sink.put(make_result(IMAGE, bear(), id=number, source="rtsp://***@cam/1"))
    until(lambda: len(listener.of("result")) == 50, "the results")
    records = [json.loads(text) for text in listener.of("result")]
    assert [record["frame"] for record in records] == list(range(50))
    assert records[7]["source"] == "rtsp://***@cam/1"
    assert records[7]["detections"] == [
        {"xyxy": [1.0, 2.0, 3.0, 4.0], "confidence": 0.75, "class_id": 1, "class_name": "bear", "track_id": None}
    ]
    assert not any(kept for topic, _, kept in listener.heard if topic.endswith("result"))


def test_the_state_is_kept_for_who_comes_later(broker, listen, make_result: MakeResult) -> None:
    listener = listen(broker.port)
    with MqttSink(broker.url, NAMES) as sink:
        until(lambda: listener.of("state"), "the first state")
        sink.event(Event("streaming", "starting", 1))
        sink.put(make_result(IMAGE))
        sink.event(Event("reconnecting", "streaming", 2, "the camera is gone"))
        assert retained(listen, broker, "state") == "reconnecting"
    assert retained(listen, broker, "state") == "stopped"
    assert listener.of("state") == ["starting", "streaming", "reconnecting", "stopped"]


def test_a_camera_that_failed_is_not_said_to_have_stopped(broker, listen) -> None:
    with MqttSink(broker.url, NAMES) as sink:
        sink.event(Event("failed", "streaming", 1))
        until(lambda: retained(listen, broker, "state") == "failed", "the state")
    assert retained(listen, broker, "state") == "failed"


def test_results_by_hand_without_any_event_are_of_a_camera_that_streams(broker, listen, make_result) -> None:
    with MqttSink(broker.url, NAMES) as sink:
        sink.put(make_result(IMAGE))
        assert retained(listen, broker, "state") == "streaming"


def test_counts_are_kept_and_said_when_they_change(broker, listen, make_result: MakeResult) -> None:
    listener = listen(broker.port)
    with MqttSink(broker.url, NAMES) as sink:
        for counts in ({}, {"in": 1}, {"in": 1}, {}, {"in": 1}, {"in": 2, "out": 0}):
            sink.put(replace(make_result(IMAGE), counts=counts))
    until(lambda: len(listener.of("result")) == 6, "the results")
    assert [json.loads(text) for text in listener.of("counts")] == [{"in": 1}, {"in": 2, "out": 0}]
    assert json.loads(retained(listen, broker, "counts") or "") == {"in": 2, "out": 0}


def test_a_last_will_tells_of_a_process_that_was_killed(broker, listen) -> None:
    listener = listen(broker.port)
    program = (
        "import sys, time; from edge_sdk.sinks.mqtt import MqttSink; from edge_sdk.result import Event\n"
        "sink = MqttSink(sys.argv[1], ()); sink.event(Event('streaming', 'starting', 1)); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, broker.url])
    try:
        until(lambda: listener.of("state"), "the state")
        process.kill()
    finally:
        process.kill()
        process.wait()
    until(lambda: listener.of("state")[-1] == "offline", "the last will")
    assert retained(listen, broker, "state") == "offline"


# --- brokers that are not there -------------------------------------------------------------------


def test_a_broker_that_starts_after_the_camera_is_found(make_broker, listen, make_result, caplog) -> None:
    broker = make_broker()
    with caplog.at_level(logging.WARNING), MqttSink(broker.url, NAMES) as sink:
        for _ in range(3):
            with pytest.raises(SinkError, match=rf"no connection to the broker 127\.0\.0\.1:{broker.port}: .* refuses"):
                sink.put(make_result(IMAGE, id=1))
        until(lambda: sink._said and len(caplog.records) == 1, "the warning")
        broker.start()
        listener = listen(broker.port)
        until(lambda: takes(sink, make_result(IMAGE, id=2)), "the connection")
        until(lambda: listener.of("result"), "the result")
        assert json.loads(listener.of("result")[0])["frame"] == 2  # what failed is not sent later
    assert len(caplog.records) == 1
    assert "does it run, and listen" in caplog.text


def test_a_broker_that_is_killed_and_comes_back_is_used_again(broker, listen, make_result, caplog) -> None:
    with caplog.at_level(logging.INFO), MqttSink(broker.url, NAMES, qos=1) as sink:
        sink.event(Event("streaming", "starting", 1))
        sink.put(replace(make_result(IMAGE, id=1), counts={"in": 4}))
        broker.stop()
        until(lambda: not takes(sink, make_result(IMAGE, id=2)), "the loss")
        began = time.monotonic()
        assert not any(takes(sink, make_result(IMAGE, id=number)) for number in range(100, 600))
        assert time.monotonic() - began < 5  # while nobody is there, results fail at once
        broker.start()
        listener = listen(broker.port)
        until(lambda: takes(sink, make_result(IMAGE, id=3)), "the connection")
        assert retained(listen, broker, "state") == "streaming"  # this broker keeps nothing on disk
        assert json.loads(retained(listen, broker, "counts") or "") == {"in": 4}
        until(lambda: listener.of("result"), "the result")
        assert {json.loads(text)["frame"] for text in listener.of("result")} == {3}
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) <= 2


def test_a_wrong_password_is_said_clearly_and_once(make_broker, make_result, tmp_path, caplog) -> None:
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", tmp_path / "passwords", "anna lee", "p@s/s?#:%"], check=True, timeout=20
    )
    broker = make_broker("allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    broker.start()
    host = f"127.0.0.1:{broker.port}/shop/door"
    with caplog.at_level(logging.WARNING):
        with MqttSink(f"mqtt://anna%20lee:wr0ng@{host}", NAMES) as sink:
            for _ in range(3):
                with pytest.raises(SinkError, match=r"refuses the user name and password .*; check both") as caught:
                    sink.put(make_result(IMAGE))
        assert len(caplog.records) == 1
        with MqttSink(f"mqtt://{host}", NAMES) as nobody, pytest.raises(SinkError, match=r"; give them as mqtt://"):
            nobody.put(make_result(IMAGE))
        with MqttSink(f"mqtt://anna%20lee:p%40s%2Fs%3F%23%3A%25@{host}", NAMES) as right:
            right.put(make_result(IMAGE))
    for secret in ("wr0ng", "anna", "p@s", "p%40"):
        assert secret not in caplog.text + str(caught.value) + repr(caught.value) + sink.name + right.name


def test_a_host_that_does_not_exist_is_said(make_result) -> None:
    with (
        MqttSink("mqtt://anna:s3cret@broker.invalid/shop", NAMES, connect_timeout_s=15) as sink,
        pytest.raises(SinkError, match=r"no host broker\.invalid; check the name") as caught,
    ):
        sink.put(make_result(IMAGE))
    assert "s3cret" not in str(caught.value)


# --- brokers that hang or talk nonsense -----------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_closing_does_not_wait_for_a_broker_that_hangs(broker, make_result: MakeResult, qos) -> None:
    sink = MqttSink(broker.url, NAMES, qos=qos)
    sink.put(make_result(IMAGE))
    broker.send(signal.SIGSTOP)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 2
    assert not sink._thread.is_alive()


def test_a_broker_that_hangs_takes_no_memory_and_is_used_again(broker, listen, make_result: MakeResult) -> None:
    with MqttSink(broker.url, NAMES, qos=1, connect_timeout_s=1) as sink:
        sink.put(make_result(IMAGE, id=1))
        broker.send(signal.SIGSTOP)
        with pytest.raises(SinkError, match="it has taken nothing for 1 s"):
            sink.put(make_result(IMAGE, id=2))
        until(lambda: "does not answer as a broker" in sink._reason, "an attempt at the broker that hangs")
        broker.send(signal.SIGCONT)
        until(lambda: takes(sink, make_result(IMAGE, id=3)), "the connection")
        assert retained(listen, broker, "state") == "streaming"


def test_a_closed_sink_can_be_closed_again_and_takes_nothing(broker, make_result: MakeResult) -> None:
    sink = MqttSink(broker.url, NAMES)
    sink.put(make_result(IMAGE))
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="the sink is closed"):
        sink.put(make_result(IMAGE))
    sink.event(Event("streaming", "starting", 1))


def test_another_thread_that_closes_frees_one_that_waits(broker, make_result: MakeResult) -> None:
    sink = MqttSink(broker.url, NAMES, qos=1, connect_timeout_s=60)
    sink.put(make_result(IMAGE))
    broker.send(signal.SIGSTOP)
    failed: list[SinkError] = []

    def put() -> None:
        try:
            sink.put(make_result(IMAGE))
        except SinkError as error:
            failed.append(error)

    waiting = threading.Thread(target=put)
    waiting.start()
    sink.close()
    waiting.join(PATIENCE_S)
    assert "no connection" in str(failed[0])


def test_however_soon_it_is_closed_it_ends_and_no_will_follows(broker, listen, make_result: MakeResult) -> None:
    listener = listen(broker.port)
    for number in range(100):
        sink = MqttSink(broker.url, NAMES)
        if number % 2:
            sink.put(make_result(IMAGE))
        time.sleep(number / 5000)  # up to 20 ms: before, while and after it connects
        sink.close()
        assert not sink._thread.is_alive()
    until(lambda: listener.of("state")[-1:] == ["stopped"], "the last state")
    assert "offline" not in listener.of("state")


def test_closing_does_not_wait_for_a_host_that_does_not_answer() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # until the system takes no more, and lets those who come wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        sink = MqttSink(f"mqtt://127.0.0.1:{full.getsockname()[1]}/a", NAMES, connect_timeout_s=3)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 2.5
        assert sink._thread.is_alive()  # it is still waiting to be connected
        until(lambda: not sink._thread.is_alive(), "the end of the thread")


class Nonsense:
    """Accepts connections and says to each what no broker says; then sends for as long as it is read."""

    def __init__(self, greeting: bytes, more: bytes = b"") -> None:
        self.port = free_port()
        self.met = 0
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._greeting, self._more = greeting, more
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, suppress(OSError):
                    connection.settimeout(0.5)
                    connection.recv(1000)
                    connection.sendall(self._greeting)
                    self.met += 1
                    end = time.monotonic() + 0.5
                    while self._more and time.monotonic() < end:
                        connection.sendall(self._more)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


CONNACK = b"\x20\x02\x00\x00"


@pytest.mark.parametrize(
    ("greeting", "more"),
    [
        (b"", b""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""),
        (b"\x20\x00", b""),  # an answer that is too short
        (b"\x20\x02\x00\x63", b""),  # a refusal that does not exist
        (b"\x20\xff\xff\xff\xff\xff", b""),  # a length that does not exist
        (CONNACK + b"\x40\x01\x00", b""),  # acknowledges half a message
        (CONNACK + b"\x31\x04\xff\xff\xff\xff", b""),  # a topic longer than its packet
        (CONNACK + b"\x90\x03\x00\x01\x61", b""),  # grants what nobody has asked for
        (CONNACK, b"\x30\x07\x00\x01aevil"),  # what nobody has subscribed to, on and on
        (random.Random(1).randbytes(2000), random.Random(2).randbytes(2000)),  # noqa: S311
    ],
)
def test_nonsense_is_survived(make_broker, listen, make_result: MakeResult, greeting, more) -> None:
    nonsense = Nonsense(greeting, more)
    broker = make_broker()
    sink = MqttSink(f"mqtt://127.0.0.1:{nonsense.port}/shop/door", NAMES, connect_timeout_s=1)
    try:
        until(lambda: nonsense.met >= 2, "another attempt")
        assert sink._thread.is_alive()
    finally:
        nonsense.close()
    broker.port = nonsense.port
    broker._config.write_text(f"listener {nonsense.port} 127.0.0.1\nuser root\nallow_anonymous true\n")
    broker.start()
    listener = listen(broker.port)
    until(lambda: takes(sink, make_result(IMAGE, id=9)), "the connection")
    until(lambda: listener.of("result"), "the result")
    sink.close()
    assert not sink._thread.is_alive()


def test_an_answer_that_comes_while_it_closes_opens_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(5):
            sink = MqttSink(f"mqtt://127.0.0.1:{listening.getsockname()[1]}/a", NAMES)
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                late = threading.Timer(0.05, connection.sendall, [CONNACK])
                late.start()
                sink.close()
                late.join()
            assert sink._client is None
            until(lambda: not sink._thread.is_alive(), "the end of the thread")  # noqa: B023


def test_a_refusal_is_tried_again_and_said_once(make_result: MakeResult, caplog) -> None:
    refusing = Nonsense(b"\x20\x02\x00\x05")
    try:
        with caplog.at_level(logging.INFO), MqttSink(f"mqtt://a:b@127.0.0.1:{refusing.port}", NAMES) as sink:
            until(lambda: refusing.met >= 3, "another attempt")
            with pytest.raises(SinkError, match="refuses the user name and password"):
                sink.put(make_result(IMAGE))
    finally:
        refusing.close()
    assert len(caplog.records) == 1


class Wire:
    """Passes bytes between sinks and a broker; what it has connected can be cut without either end being told."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._cut = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._pass, args=(source, sink, self._cut))
                    self._threads.append(thread)
                    thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if not cut.is_set():
                    sink.sendall(data)
            if not cut.is_set():
                sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Those that are connected hear no more of each other; who comes now is connected as before."""
        self._cut.set()
        self._cut = threading.Event()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(2)  # what was sent last is passed on first
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._open:
            end.close()


def test_the_will_of_a_lost_connection_does_not_overwrite_the_state_of_the_next(broker, listen, make_result) -> None:
    listener = listen(broker.port)
    wire = Wire(broker.port)
    try:
        with MqttSink(f"mqtt://127.0.0.1:{wire.port}/shop/door", NAMES, qos=1, connect_timeout_s=1) as sink:
            sink.put(make_result(IMAGE, id=1))
            wire.cut()
            with pytest.raises(SinkError, match="it has taken nothing for 1 s"):
                sink.put(make_result(IMAGE, id=2))
            until(lambda: takes(sink, make_result(IMAGE, id=3)), "the next connection")
            until(lambda: "offline" in listener.of("state"), "the will, at once and not after the keep-alive time")
            assert retained(listen, broker, "state") == "streaming"
    finally:
        wire.close()
    assert listener.of("state") == ["starting", "streaming", "offline", "streaming", "stopped"]


def test_a_connection_that_died_in_silence_is_noticed_without_any_result(broker, listen, monkeypatch) -> None:
    monkeypatch.setattr("edge_sdk.sinks.mqtt._KEEPALIVE_S", 1)
    listener = listen(broker.port)
    wire = Wire(broker.port)
    try:
        with MqttSink(f"mqtt://127.0.0.1:{wire.port}/shop/door", NAMES) as sink:
            until(lambda: sink._client, "the connection")
            wire.cut()
            until(lambda: listener.of("state")[-2:] == ["offline", "starting"], "the next connection")
    finally:
        wire.close()


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that no system knows; its key lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with: apt install openssl")
    path = tmp_path / "broker.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "broker.key", "-out", path),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return path


def test_over_tls_the_brokers_certificate_is_checked(
    make_broker, certificate, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = certificate.with_suffix(".key")
    broker = make_broker("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    broker.start()
    url = broker.url.replace("mqtt://", "mqtts://")
    with MqttSink(url, NAMES) as sink, pytest.raises(SinkError, match=r"certificate is not trusted .self.signed"):
        sink.put(make_result(IMAGE))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with MqttSink(url, NAMES, qos=1) as sink:
        for number in range(20):
            sink.put(make_result(IMAGE, bear(), id=number))
    other = url.replace("127.0.0.1", "localhost")
    with (
        MqttSink(other, NAMES) as sink,
        pytest.raises(SinkError, match=r"not trusted .Hostname mismatch"),
    ):
        sink.put(make_result(IMAGE))
    with MqttSink(broker.url, NAMES) as sink, pytest.raises(SinkError, match="with or without TLS"):
        sink.put(make_result(IMAGE))


def test_tls_to_a_port_without_it_is_said(broker, make_result: MakeResult) -> None:
    url = broker.url.replace("mqtt://", "mqtts://")
    with MqttSink(url, NAMES) as sink, pytest.raises(SinkError, match=r"no connection .*(speaks no TLS|hung up|reset)"):
        sink.put(make_result(IMAGE))


# --- what is left behind --------------------------------------------------------------------------


def held() -> set[str]:
    """Open descriptors and running threads."""
    return {link.name for link in Path("/proc/self/fd").iterdir()} | {one.name for one in threading.enumerate()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_no_thread_and_no_descriptor_is_left(make_broker, make_result: MakeResult) -> None:
    broker = make_broker()
    before = held()
    for number in range(6):
        if number == 2:
            broker.start()
        with MqttSink(broker.url, NAMES, qos=1) as sink:
            assert takes(sink, make_result(IMAGE)) == (number >= 2)
        if number == 4:
            broker.send(signal.SIGSTOP)
            with MqttSink(broker.url, NAMES) as hung:
                assert hung._thread.is_alive()
            broker.send(signal.SIGCONT)
        assert not sink._thread.is_alive()
    broker.stop()
    until(lambda: not held() - before, "the end of threads and descriptors")


def test_a_thousand_results_do_not_pile_up_anywhere(broker, make_result: MakeResult) -> None:
    with MqttSink(broker.url, NAMES) as sink:
        for number in range(1000):
            sink.put(make_result(IMAGE, bear(), id=number))
            assert not sink._client.want_write()  # all of it is on its way before the next


# --- what it is built from ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mqtt://broker/shop/+/door", "subscribe to"),
        ("mqtt://broker/shop/%2B/door", "subscribe to"),
        ("mqtt://broker/shop/#", "subscribe to"),
        ("mqtt://broker/#", "subscribe to"),
        ("mqtt://broker/a%23b", "subscribe to"),
        ("mqtt://broker/a?b", "write it as %3F"),
        ("mqtt://broker/a%0Ab", "no topic has"),
        ("mqtt://broker/a%00", "no topic has"),
        ("mqtt://broker/%ff", "not UTF-8"),
        ("http://broker/a", "not with http://"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused_with_an_example(url, why) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        MqttSink(url, NAMES)
    assert "mqtt://user:password@host:1883/prefix/of/topic" in str(caught.value)


def test_without_paho_the_extra_is_named_when_a_sink_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, edge_sdk.sinks.mqtt; sys.exit('paho' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edge-sdk\[mqtt\]'"):
        MqttSink("mqtt://127.0.0.1/a", NAMES)


@pytest.mark.parametrize("options", [{"qos": 3}, {"qos": -1}, {"connect_timeout_s": 0}, {"connect_timeout_s": np.nan}])
def test_figures_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(UsageError, match="not"):
        MqttSink("mqtt://127.0.0.1/a", NAMES, **options)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("mqtt://anna:s3cret@127.0.0.1/shop/door/", "mqtt://127.0.0.1:1883/shop/door"),
        ("MQTTS://tok@127.0.0.1", f"mqtts://127.0.0.1:8883/edge-sdk/{socket.gethostname()}"),
        ("mqtt://[::1]:1/%C3%A4%3F", "mqtt://[::1]:1/ä?"),
    ],
)
def test_its_name_is_where_it_sends_to_without_credentials(url, name) -> None:
    with MqttSink(url, NAMES, connect_timeout_s=0.5) as sink:
        assert sink.name == name
    assert not sink.complete
    assert not sink.wants_image

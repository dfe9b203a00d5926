"""The page of the HTTP sink, in a real browser."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
from edge_sdk import Detections, Result
from edge_sdk.pipeline.books import SinkStats, Stats
from edge_sdk.result import Event, State
from edge_sdk.sinks import draw, http
from edge_sdk.sinks.http import HttpSink

CHROMIUM = Path("/usr/bin/chromium")
TOKEN = "0123456789abcdefXYZ"  # noqa: S105  of the tests alone
WAIT_S = 60
# Chromium reads its orders from descriptor 3 and answers on 4.
LAUNCH = """
import fcntl, os, sys
orders, answers = (fcntl.fcntl(int(one), fcntl.F_DUPFD_CLOEXEC, 10) for one in sys.argv[1:3])  # out of the way
os.dup2(orders, 3), os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
MakeResult = Callable[..., Result]


class Browser:
    """A tab of a browser, ordered about over pipes (chromedevtools.github.io/devtools-protocol)."""

    def __init__(self, profile: Path) -> None:
        orders, write = os.pipe()
        read, answers = os.pipe()
        options = (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        )  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(orders), str(answers), str(CHROMIUM), *options],
            pass_fds=(orders, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(orders)
        os.close(answers)
        self._write, self._read = write, os.fdopen(read, "rb", buffering=0)
        self._rest = b""
        self._count = 0
        self._session: str | None = None
        self._url = ""
        self.complaints: list[str] = []
        page = next(one for one in self.order("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.order("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.order(f"{domain}.enable")

    def order(self, method: str, **params: Any) -> Any:
        self._count += 1
        order: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._write, json.dumps(order).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                more = self._read.read(1 << 16)
                assert more, "the browser has gone"
                self._rest += more
            line, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(answer["params"]["exceptionDetails"]["text"])
            if answer.get("method") == "Log.entryAdded":
                entry = answer["params"]["entry"]
                of_this_page = entry.get("url", self._url).startswith(self._url)  # the one before may still be heard of
                if of_this_page and entry["level"] in ("warning", "error"):
                    self.complaints.append(entry["text"])

    def open(self, url: str, *, width: int, height: int, dark: bool = False) -> None:
        self.complaints.clear()
        self._url = url.partition("/?")[0]
        self.order(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.order("Emulation.setEmulatedMedia", features=[scheme])
        self.order("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        return self.order("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script: str) -> None:
        end_s = time.monotonic() + WAIT_S
        while not self.value(script):
            assert time.monotonic() < end_s, f"it did not come about: {script}\n{self.value('document.body.innerText')}"
            time.sleep(0.1)

    def screenshot(self) -> np.ndarray:
        data = base64.b64decode(self.order("Page.captureScreenshot")["data"])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    def close(self) -> None:
        os.close(self._write)  # at which it ends
        self._process.wait(WAIT_S)
        self._read.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: there is no {CHROMIUM}")
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


class Run:
    """A camera that streams one picture, with two things in it, over and over."""

    def __init__(self, make_result: MakeResult, image: np.ndarray) -> None:
        self.state: State = "streaming"
        self.processed = 0
        found = Detections(
            np.array([[40, 30, 200, 160], [220, 60, 300, 200]], np.float32),
            np.array([0.914, 0.62], np.float32),
            np.array([1, 5], np.int32),
            track_id=np.array([7, 8], np.int64),
        )
        self._result = replace(make_result(image, found), counts=MappingProxyType({"door in": 12}))

    def stats(self) -> Stats:
        stages = ("wait_ms", "preprocess_ms", "infer_ms", "decode_ms", "total_ms")
        return Stats(
            captured=self.processed + 1234,
            processed=self.processed,
            dropped={"overwritten": 1234},
            in_flight=0,
            percentiles={stage: {"p50": 25.0, "p90": 30.0, "p99": 41.5, "max": 250.0} for stage in stages},
            state=self.state,
            sinks={"<b>mqtt</b>": SinkStats(1, 2, 3, 0, "the broker is away")},
        )

    @contextmanager
    def into(self, sink: HttpSink) -> Iterator[None]:
        ending = threading.Event()

        def feed() -> None:
            while not ending.wait(0.05):
                self.processed += 1
                sink.put(self._result)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


RED = (0, 0, 255)


@pytest.fixture
def run(make_result: MakeResult) -> Run:
    return Run(make_result, np.full((240, 320, 3), RED, np.uint8))


def served(run: Run, **more: Any) -> HttpSink:
    return HttpSink("127.0.0.1:0", ("person", "<i>car</i>"), stats=run.stats, camera="front door", **more)


def reds(picture: np.ndarray) -> float:
    """How much of it is the camera's picture."""
    blue, green, red = (picture[..., index].astype(int) for index in range(3))
    return float(((red > 200) & (green < 60) & (blue < 60)).mean())


@pytest.mark.parametrize(("width", "height", "dark"), [(1360, 900, False), (1360, 900, True), (390, 844, False)])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_the_page_shows_picture_and_figures(
    browser: Browser, run: Run, width: int, height: int, dark: bool, token: str | None
) -> None:
    with served(run, token=token) as sink, run.into(sink):
        browser.open(sink.url + (f"/?token={token}" if token else "/"), width=width, height=height, dark=dark)
        browser.until("document.getElementById('live')?.naturalWidth === 320")
        browser.until("parseFloat(document.getElementById('rate').textContent) > 1")
        browser.until("document.body.innerText.includes('#7')")
        said = browser.value("document.body.innerText")
        for text in ("front door", "streaming", "<i>car</i> #7", "91 %", "class 5 #8", "62 %", "door in", "1,234"):
            assert text in said
        for text in ("<b>mqtt</b>", "the broker is away", "overtaken by a newer one", "42", "250"):
            assert text in said
        assert browser.value("document.getElementById('notice').hidden")
        assert browser.value("document.querySelectorAll('main b, main i').length") == 4 + 4 + 2  # none from a name
        assert browser.value("document.documentElement.scrollWidth") <= width  # nothing hangs out at the side
        picture = browser.screenshot()
        assert reds(picture) > 0.1
        assert (picture[2, 2] < 60).all() == dark
        if token:
            links = browser.value("[...document.querySelectorAll('footer a')].every(a => a.href.includes('?token='))")
            assert links
        assert browser.complaints == []


def test_the_page_tells_what_the_camera_does_and_why(browser: Browser, run: Run) -> None:
    with served(run) as sink:
        run.state = "starting"
        browser.open(sink.url, width=900, height=700)
        browser.until("document.getElementById('notice').innerText.includes('Starting')")
        run.state = "streaming"
        with run.into(sink):
            browser.until("document.getElementById('notice').hidden")
        run.state = "reconnecting"
        sink.event(Event("reconnecting", "stalled", 1, "no frame for 5 s"))
        browser.until("document.getElementById('notice').innerText.includes('Looking for the camera')")
        browser.until("document.getElementById('notice').innerText.includes('no frame for 5 s')")
        assert browser.value("document.getElementById('state').innerText") == "reconnecting"
        assert browser.complaints == []
    browser.until("document.getElementById('notice').innerText.includes('Nobody answers')")


def test_the_page_finds_its_server_again(browser: Browser, run: Run) -> None:
    with served(run) as sink, run.into(sink):
        browser.open(sink.url, width=900, height=700)
        browser.until("document.getElementById('live').naturalWidth === 320")
    browser.until("document.getElementById('state').innerText === 'no answer'")
    address = sink.url.removeprefix("http://")
    with HttpSink(address, (), stats=run.stats) as again, run.into(again):
        browser.until("document.getElementById('state').innerText === 'streaming'")
        browser.until("latest.http.watching === 1")


def test_a_paused_page_keeps_its_picture_and_leaves_its_place(browser: Browser, run: Run) -> None:
    with served(run) as sink, run.into(sink):
        browser.open(sink.url, width=900, height=700)
        browser.until("latest?.http.watching === 1 && live.naturalWidth === 320")
        browser.value("document.getElementById('pause').click()")
        browser.until("latest.http.watching === 0")
        assert reds(browser.screenshot()) > 0.1
        browser.value("document.getElementById('pause').click()")
        browser.until("latest.http.watching === 1")
        assert browser.complaints == []


def test_a_person_types_the_token_and_is_let_in(browser: Browser, run: Run) -> None:
    with served(run, token=TOKEN) as sink, run.into(sink):
        browser.open(sink.url, width=390, height=700)
        browser.until("document.querySelector('input') !== null")
        browser.value(f"document.querySelector('input').value = '{TOKEN}'; document.querySelector('button').click()")
        browser.until("document.getElementById('live')?.naturalWidth === 320")


def page() -> str:
    return Path(http.__file__).with_name("http_page.html").read_text(encoding="utf-8")


def test_the_list_has_the_colours_of_the_boxes() -> None:
    listed = re.search(r"COLOURS = \[(.*?)\]", page())
    assert listed is not None
    drawn = [f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in draw._COLOURS]
    assert re.findall(r"#[0-9a-f]{6}", listed.group(1)) == drawn


def test_the_page_asks_nobody_else_for_anything() -> None:
    assert set(re.findall(r"https?://[^'\"]+", page())) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"<link(?! rel=\"icon\" href=\"data:)|<script .|@import|style=\"", page())

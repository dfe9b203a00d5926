"""A meter on this machine that answers HTTP from a table: for tests and for trying `--sensor` without a plug."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOT_THERE = 404


class FakeMeter:
    """Listens on 127.0.0.1 while its block runs.

    Args:
        answers: By target, such as ``{"/status": {...}}``: bytes as they are, anything else as JSON. May be changed
            while it runs.
        locked_with: The password that it asks for; the user is ``admin``.
        ask: How it asks: "digest" (SHA-256, as Shelly Gen2) or "basic" (as Gen1).
        public: What is answered without a password.
        port: 0 is any that is free.

    Attributes:
        host: For an address: "127.0.0.1:PORT".
        requests: Targets, in order; those that were answered with 401 included.
        connections: How often somebody connected.
    """

    def __init__(
        self,
        answers: Mapping[str, Any],
        *,
        locked_with: str | None = None,
        ask: str = "digest",
        public: tuple[str, ...] = ("/shelly",),
        port: int = 0,
    ) -> None:
        self.answers = dict(answers)
        self.requests: list[str] = []
        self.connections = 0
        self._locked_with = locked_with
        self._ask = ask
        self._public = public
        self.nonce = secrets.token_hex(8)
        self._counts: set[tuple[str, str]] = set()
        self._open: set[socket.socket] = set()
        meter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self) -> None:
                meter.connections += 1
                meter._open.add(self.request)
                super().setup()

            def finish(self) -> None:
                meter._open.discard(self.request)
                super().finish()

            def do_GET(self) -> None:
                meter.requests.append(self.path)
                header = self.headers.get("Authorization", "")
                if not meter._lets_in(self.path, header):
                    self._give(401, b'{"code":401,"message":"Unauthorized"}')
                elif self.path in meter.answers:
                    answer = meter.answers[self.path]
                    self._give(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())
                else:
                    self._give(NOT_THERE, b'{"code":404,"message":"No handler"}')

            def _give(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", meter._challenge())
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> FakeMeter:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _challenge(self) -> str:
        if self._ask == "basic":
            return 'Basic realm="shelly"'
        return f'Digest qop="auth", realm="shelly-fake", nonce="{self.nonce}", algorithm=SHA-256'

    def _lets_in(self, target: str, header: str) -> bool:
        if self._locked_with is None or target in self._public:
            return True
        if self._ask == "basic":
            return header == "Basic " + base64.b64encode(f"admin:{self._locked_with}".encode()).decode()
        said = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s",]+))', header)}
        if said.get("nonce") != self.nonce or said.get("uri") != target:
            return False
        if (self.nonce, said.get("nc", "")) in self._counts or "nc" not in said:
            return False
        secret = _sha256(f"admin:shelly-fake:{self._locked_with}")
        words = [secret, self.nonce, said["nc"], said.get("cnonce", ""), "auth", _sha256(f"GET:{target}")]
        if said.get("response") != _sha256(":".join(words)):
            return False
        self._counts.add((self.nonce, said["nc"]))
        return True


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

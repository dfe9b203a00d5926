"""Who may ask an HTTP server of ours, and what every answer carries."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge_sdk.errors import UsageError
from edge_sdk.sinks.http_server import App, is_loopback

log = logging.getLogger("edge_sdk")

_SHORTEST_TOKEN = 16
_HEADERS = {
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"connection": b"close",  # one request a connection, so that none is held open for nothing
}

_NOT_OURS = "this is served to this machine alone: ask for it as localhost, or have it served with a token"


def check_token(token: str) -> str:
    """The token, if it can stand in a URL as it is and is long enough; errors do not quote it.

    Raises:
        UsageError: It is too short, or has other characters.
    """
    if len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"a token has {_SHORTEST_TOKEN} characters or more, not {len(token)}; 'openssl rand -hex 16' makes one"
        )
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", token):
        raise UsageError("a token has letters without accents, digits and - . _ ~ alone, as it stands in URLs")
    return token


def json_answer(status: int, value: Any) -> App:
    """An application that answers JSON, whatever is asked."""
    return _answer(status, (json.dumps(value) + "\n").encode(), b"application/json")


def _answer(status: int, body: bytes, kind: bytes, *headers: tuple[bytes, bytes]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = str(len(body)).encode()
        fields = [(b"content-type", kind), (b"content-length", length), *headers]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


class Guard:
    """An ASGI application that lets through to another what may come, and adds headers to its answers.

    With a token, everything but the open paths wants it, as ``Authorization: Bearer TOKEN`` or ``?token=TOKEN``.
    Without one the server is for this machine alone, and must be asked for under a name of this machine: a browser
    would else let any web site whose name resolves to 127.0.0.1 read from it (DNS rebinding).

    Args:
        app: What is guarded.
        token: From `check_token`; None without.
        host: The name that it is served under.
        open_paths: What needs no token.
        front: The path and the HTML that asks a person for the token, and the policy of that page.
    """

    def __init__(
        self, app: App, *, token: str | None, host: str, open_paths: Collection[str], front: tuple[str, bytes, str]
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._host = host.lower()
        self._open_paths = open_paths
        self._front = front

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request."""
        began = False

        async def send_with_headers(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                more = [(name, value) for name, value in self._headers() if name not in names]
                message = {**message, "headers": own + more}
            await send(message)

        refusal = self._refusal(scope)
        scope["query_string"] = b""  # nobody behind needs it, and no log is to have the token
        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except Exception:
            log.exception("HTTP: %s could not be answered", scope["path"])
            if began:
                raise  # uvicorn hangs up
            await json_answer(500, {"error": "this could not be answered; see the log"})(
                scope, receive, send_with_headers
            )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        # Who knows the token may show the picture on another site's page; without one, other sites may not.
        own = [] if self._token else [(b"cross-origin-resource-policy", b"same-site")]
        return [*_HEADERS.items(), *own]

    def _refusal(self, scope: Any) -> App | None:
        """What to answer whom there is no more to say to."""
        headers = scope["headers"]
        if self._token is None:
            hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
            if not all(self._is_own(host) for host in hosts):  # a program may send none; browsers do always
                return json_answer(421, {"error": _NOT_OURS})
            return None
        if scope["path"] in self._open_paths or self._has_token(scope["query_string"], headers):
            return None
        path, page, policy = self._front
        challenge = (b"www-authenticate", b"Bearer")
        if scope["path"] == path:
            return _answer(
                401, page, b"text/html; charset=utf-8", challenge, (b"content-security-policy", policy.encode())
            )
        wanted = {"error": "the token is wanted: Authorization: Bearer TOKEN, or ?token=TOKEN"}
        return _answer(401, (json.dumps(wanted) + "\n").encode(), b"application/json", challenge)

    def _is_own(self, host: str) -> bool:
        try:
            name = "" if "@" in host else urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_loopback(name) or name == self._host

    def _has_token(self, query: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value.encode() for value in parse_qs(query.decode("latin-1")).get("token", ())]
        for name, value in headers:
            scheme, _, rest = value.partition(b" ")
            if name == b"authorization" and scheme.lower() == b"bearer":
                given.append(rest.strip())
        return any(secrets.compare_digest(one, self._token or b"") for one in given)

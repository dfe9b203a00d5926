"""Fetches one file whose size and sha256 are known beforehand.

A server is trusted with nothing: it may cut the connection, ignore or mistake ranges, state any length and send any
bytes. What came lies in ``FILE.part`` until its sha256 is right, and only then takes its final name, in
one step. A cut connection goes on where it stopped, also in a later run.

Proxies come from the environment in the usual way: ``http_proxy``, ``https_proxy``, ``no_proxy``.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import io
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_sdk.errors import ChecksumError, DownloadError, EdgeSdkError, one_line
from edge_sdk.models.zoo import Progress, sha256_of

_LOG = logging.getLogger("edge_sdk")
_CHUNK_BYTES = 1 << 16
_LONGEST_WAIT_S = 30.0
_LOCK_POLL_S = 0.1
_MOST_DIGITS = 18  # of a length: Python refuses to read thousands of them
# Answers after which the same question may well succeed (RFC 9110 and 6585): timeout, too early, too many, 5xx.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Args:
        timeout_s: To connect, and for the next bytes. A connection that brings less than `least_rate`
            bytes a second over this time is given up as well.
        attempts: Connections in a row that fail before the download does. One that brought `least_bytes`
            starts the count anew: a large file over a bad line needs many.
        backoff_s: Pause after the first failure; it doubles with each, up to half a minute.
        lock_s: Wait for another process that fetches the same file.
    """

    timeout_s: float = 30.0
    attempts: int = 4
    backoff_s: float = 1.0
    least_bytes: int = 1 << 18
    least_rate: float = 50.0
    lock_s: float = 1800.0


def fetch(
    url: str,
    target: Path,
    *,
    size_bytes: int,
    sha256: str,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetches a file, or completes an earlier try.

    Args:
        url: Its address, http or https. Redirects are followed, but never from https to http.
        target: Where it goes. A file that is there already stays as it is if it is the right one.
        size_bytes, sha256: Of the one file that is accepted; nothing longer is ever written.
        progress: Called with the bytes that are there and `size_bytes`, at the start and after every piece.

    Returns:
        `target`.

    Raises:
        DownloadError: The network, the server or the disk stands against it. What came is kept for the next
            try, except on a full disk.
        ChecksumError: The whole file came and is another one; it was removed.
    """
    patience = patience or Patience()
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{_shown(url)}: only http and https addresses are fetched")
    part = target.with_name(f"{target.name}.part")
    with _writable(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(part, patience.lock_s) as file:
        if _is_there(target, size_bytes, sha256):  # by another process, while this one waited
            file.truncate(0)
            return target
        transfer = _Transfer(file, url, size_bytes, target.parent, progress, patience)
        transfer.complete()
        found = sha256_of(file)
        if found != sha256 and transfer.mixed:
            # The pieces may stem from different files: one try in one piece.
            _LOG.info("%s: the pieces do not fit together, starting again", _shown(url))
            transfer.restart()
            transfer.complete()
            found = sha256_of(file)
        if found != sha256:
            part.unlink(missing_ok=True)
            raise ChecksumError(
                f"{_shown(url)}: what the server sent is not the file on record (sha256 {found[:16]}..., "
                f"expected {sha256[:16]}...{transfer.claim()}); it was removed. Try again, or from another network"
            )
        with _writable(target.parent):
            os.fsync(file.fileno())
            part.replace(target)
            _sync_folder(target.parent)
    return target


class _BrokenError(Exception):
    """A connection ended early; another may do better, after `wait_s` if the server said so."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Transfer:
    """Fills an open file up to its known size, over as many connections as that takes."""

    def __init__(
        self,
        file: io.FileIO,
        url: str,
        size_bytes: int,
        folder: Path,
        progress: Progress | None,
        patience: Patience,
    ) -> None:
        self.file, self.url, self.size, self.folder = file, url, size_bytes, folder
        self.progress = progress or (lambda done, total: None)
        self.patience = patience
        self.opener = _opener()
        self.etag: str | None = None  # of the file that the bytes so far belong to
        self.claimed: int | None = None  # the length that the server stated last
        self.have = os.fstat(file.fileno()).st_size
        if self.have > size_bytes:
            self.restart()
        self.mixed = self.have > 0  # the bytes may stem from several answers, and those from different files

    def restart(self) -> None:
        """Drops what came so far."""
        self.file.truncate(0)
        self.have, self.mixed, self.etag = 0, False, None

    def claim(self) -> str:
        """Words on a length that cannot be right, for a message."""
        return "" if self.claimed in (None, self.size) else f"; it spoke of {self.claimed} bytes, not {self.size}"

    def complete(self) -> None:
        """Fetches until the size is reached.

        Raises:
            DownloadError: No connection gets any further.
        """
        self._check_space()
        self.progress(self.have, self.size)
        failures, mark = 0, self.have
        while self.have < self.size:
            try:
                self._connect()
            except _BrokenError as broken:
                advanced = self.have >= mark + self.patience.least_bytes
                mark = self.have if advanced else mark
                failures = 0 if advanced else failures + 1
                if failures >= self.patience.attempts:
                    kept = "; what came is kept, the next try goes on from there" if self.have else ""
                    raise DownloadError(
                        f"{_shown(self.url)}: gave up after {failures} tries at {self.have} of {self.size} bytes: "
                        f"{broken}{self.claim()}{kept}"
                    ) from broken
                wait_s = min(max(self.patience.backoff_s * 2 ** max(failures - 1, 0), broken.wait_s), _LONGEST_WAIT_S)
                _LOG.info("%s: %s; trying again in %.0f s", _shown(self.url), broken, wait_s)
                time.sleep(wait_s)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < self.size - self.have:
            raise DownloadError(_no_space(self.folder, f"{self.size - self.have} bytes are needed, {free} are free"))

    def _connect(self) -> None:
        """One connection: asks for what is missing and writes what comes."""
        headers = {"User-Agent": "edge-sdk", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.etag:
                headers["If-Range"] = self.etag
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310  (the scheme is checked in fetch)
        try:
            with _network(self.url):
                response = self.opener.open(request, timeout=self.patience.timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        else:
            with response:
                self._begin(response)
                self._pour(response)

    def _refused(self, error: urllib.error.HTTPError) -> None:
        answer = f"the server answered {error.code} {' '.join(str(error.reason).split())}"
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self.have:
            self.restart()  # its file is shorter than what is here: not the same
            raise _BrokenError(answer) from error
        if error.code in _PASSING:
            wait = error.headers.get("Retry-After", "") if error.headers else ""
            raise _BrokenError(answer, float(wait) if wait.isdecimal() else 0.0) from error
        raise DownloadError(f"{_shown(self.url)}: {answer}") from error

    def _begin(self, response: Any) -> None:
        """Settles where the bytes that follow belong."""
        if response.headers.get_content_type() == "text/html":
            raise DownloadError(
                f"{_shown(self.url)}: a web page came instead of the model: a login page of this network, "
                "a proxy's notice, or a model that has moved"
            )
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if span is None or _whole_number(span[1]) != self.have:
                self.restart()
                raise _BrokenError("the server sent another part of the file than was asked for")
            self.claimed = _whole_number(span[2])
        elif response.status == http.HTTPStatus.OK:
            if self.have:
                self.restart()  # it gives no parts, or the file has changed
            self.claimed = _whole_number(response.headers.get("Content-Length", ""))
        else:
            raise DownloadError(f"{_shown(self.url)}: the server answered {response.status} without a file")
        etag = response.headers.get("ETag")
        self.etag = etag if etag and not etag.startswith("W/") else None  # a weak one does not vouch for bytes
        self.mixed = self.have > 0

    def _pour(self, response: Any) -> None:
        window_start, window_bytes = time.monotonic(), 0
        self.file.seek(self.have)
        while self.have < self.size:
            with _network(self.url):
                data = response.read1(min(_CHUNK_BYTES, self.size - self.have))
            if not data:
                raise _BrokenError(f"the connection ended at {self.have} of {self.size} bytes")
            with _writable(self.folder, self.file):
                _write_all(self.file, data)
            self.have += len(data)
            self.progress(self.have, self.size)
            window_bytes += len(data)
            elapsed_s = time.monotonic() - window_start
            if elapsed_s >= self.patience.timeout_s:
                if window_bytes < self.patience.least_rate * elapsed_s:
                    raise _BrokenError(f"only {window_bytes} bytes came in {elapsed_s:.0f} s")
                window_start, window_bytes = time.monotonic(), 0


# --- the network ---------------------------------------------------------------------------------


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and never gives up encryption on the way."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise DownloadError(
                f"{_shown(req.full_url)}: leads from {req.type} to {_shown(newurl)}, which is not followed"
            )
        # Python 3.10 does not know 308 yet; it is 307 for good.
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)

    def http_error_308(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        return self.http_error_302(req, fp, code, msg, headers)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https, through the environment's proxies; no file:, ftp: or data: addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Turns what connections die of into a broken connection; a server that cannot be trusted ends the download."""
    try:
        yield
    except (EdgeSdkError, urllib.error.HTTPError):  # both are OSErrors too, and say more
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{_shown(url)}: the server's certificate is not trusted ({reason.verify_message}); check the clock, "
                "and behind a proxy that opens TLS set SSL_CERT_FILE to its certificates"
            ) from error
        raise _BrokenError(one_line(reason) if isinstance(reason, BaseException) else str(reason)) from error


def _whole_number(text: str) -> int | None:
    """A length that a server states, where it can be one."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _shown(url: str) -> str:
    """An address for messages: without credentials, and without a query, where tokens stand."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


# --- the disk ------------------------------------------------------------------------------------


@contextmanager
def _locked(part: Path, wait_s: float) -> Iterator[io.FileIO]:
    """The part file, open, for this process alone. An empty one is removed at the end.

    The lock is on the part file itself: it goes when its holder ends, however that happens, and leaves no
    file of its own. Whoever waited looks whether the name still stands for what it has opened.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with _writable(part.parent):
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            file = io.FileIO(handle, "r+")
        try:
            with _writable(part.parent):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(part, handle):
                yield file
                return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise DownloadError(f"{part}: another process has been fetching it for {wait_s:.0f} s") from None
            time.sleep(_LOCK_POLL_S)
        finally:
            if _same_file(part, handle) and os.fstat(handle).st_size == 0 and _holds(handle):
                part.unlink(missing_ok=True)
            file.close()


def _holds(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextmanager
def _writable(folder: Path, file: io.FileIO | None = None) -> Iterator[None]:
    """Turns what the disk refuses into one line; on a full disk, gives back the space that `file` takes."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            if file is not None:
                file.truncate(0)
            raise DownloadError(_no_space(folder, one_line(error))) from error
        raise DownloadError(
            f"the model cache {folder} cannot be written: {one_line(error)}; set EDGE_SDK_CACHE to a folder that can"
        ) from error


def _no_space(folder: Path, detail: str) -> str:
    return f"no space for the model in {folder}: {detail}; free some, or set EDGE_SDK_CACHE to a folder elsewhere"


def _write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _is_there(target: Path, size_bytes: int, sha256: str) -> bool:
    if not target.is_file() or target.stat().st_size != size_bytes:
        return False
    with target.open("rb") as file:
        return sha256_of(file) == sha256


def _sync_folder(folder: Path) -> None:
    """The new name survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

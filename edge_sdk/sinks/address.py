"""The URL that a sink over the network is given, taken apart; what may be secret in it is never shown."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from edge_sdk.errors import UsageError, one_line

# MQTT counts the bytes of a topic, a user and a password in 16 bits; none is longer than the URL that holds it.
_LONGEST_BYTES = 65_000


@dataclass(frozen=True)
class Address:
    """Where a sink sends to.

    Args:
        scheme: In lower case.
        host: A name, or an IP address without brackets.
        port: The URL's own, or the scheme's.
        tail: What comes after host and port, as it was written: path, query and fragment.
        user: Percent-decoded; None where the URL has none.
        password: Percent-decoded; None where the URL has none.
    """

    scheme: str
    host: str
    port: int
    tail: str = field(repr=False)
    user: str | None = field(repr=False)
    password: bytes | None = field(repr=False)

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(url: str, ports: Mapping[str, int], *, example: str) -> Address:
    """Takes a URL apart.

    Errors quote none of it but its scheme: a URL that is written wrong has its password anywhere.

    Args:
        url: As the user gave it.
        ports: The schemes that are meant, with the port of each.
        example: A right one, for messages.

    Raises:
        UsageError: It makes no sense.
    """

    def wrong(why: str) -> UsageError:
        return UsageError(f"this is no address to send results to: {why}; such as {example}")

    if not url.isprintable():  # a line break of a file it was read from, say
        raise wrong("it has a line break or another character that cannot be printed")
    if len(url.encode()) > _LONGEST_BYTES:
        raise wrong(f"it is longer than {_LONGEST_BYTES} bytes")
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ports or not rest:
        found = f", not with {scheme}://" if rest and scheme.isalnum() else ""
        raise wrong(f"it begins with {' or '.join(f'{one}://' for one in ports)}{found}")
    location = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(location) :]
    if "@" in tail:  # else 'user:12/34@host' would be the host 'user', and a password a part of the path
        raise wrong(
            "there is an @ after the host: in a password write / as %2F, ? as %3F and # as %23, elsewhere @ as %40"
        )
    try:
        parts = urlsplit(f"//{location}")
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        raise wrong("its host or port cannot be read") from None  # the reason would quote the password
    if not host or port == 0 or any(character.isspace() for character in host):
        raise wrong("its host or port cannot be read")
    return Address(
        scheme=scheme.lower(),
        host=host,
        port=port or ports[scheme.lower()],
        tail=tail,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote_to_bytes(parts.password),
    )


def why_not(error: OSError | UnicodeError, address: Address, within_s: float) -> str:
    """What kept a connection from being made or used, and how to mend it.

    Args:
        error: What the socket raised.
        address: Where to.
        within_s: The time limit.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = getattr(error, "verify_message", "") or one_line(error)
        return (
            f"its certificate is not trusted ({detail}); check the name and the clock, and set SSL_CERT_FILE to the "
            "certificate of an authority of your own"
        )
    if isinstance(error, ssl.SSLError):
        detail = getattr(error, "reason", "") or one_line(error)  # what Python itself raises has none
        return f"port {address.port} speaks no TLS that fits ({detail}); check the port"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"no host {address.host}; check the name and the network"
    if isinstance(error, ConnectionRefusedError):
        return f"{address.host} refuses connections on port {address.port}; does it run, and listen to the network?"
    if isinstance(error, TimeoutError):
        return f"no answer within {within_s:g} s; check the address and the network"
    return f"{error.strerror or one_line(error)}; check the address and the network"

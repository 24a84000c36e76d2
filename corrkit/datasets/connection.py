"""Connections to the servers that data sets come from: none that a server leads astray, and none that never ends."""

import contextlib
import functools
import http.client
import ipaddress
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO
from urllib.parse import urlsplit

from corrkit.errors import DataError

TIMEOUT_SECONDS = 60
PATIENCE_SECONDS = 60
LEAST_BYTES = 4096
"""That have to come in so many seconds: whatever sends less never ends."""


class Watch:
    """Ends a connection over which less than LEAST_BYTES come in PATIENCE_SECONDS, headers included."""

    def __init__(self) -> None:
        self.gave_up, self.count = False, 0
        self._ended = threading.Event()
        self._socket: socket.socket | None = None

    def over(self, connection: socket.socket | None) -> None:
        """Takes the connection that is open now."""
        self._socket = connection

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Counts what is added to `count` meanwhile."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        before = self.count
        while not self._ended.wait(PATIENCE_SECONDS):
            if self.count - before < LEAST_BYTES:
                self.gave_up = True
                if self._socket is not None:
                    with contextlib.suppress(OSError):
                        self._socket.shutdown(socket.SHUT_RDWR)
            before = self.count


def open_address(request: urllib.request.Request, watch: Watch) -> http.client.HTTPResponse:
    """Sends a request, over the proxy that the environment names, and follows redirects; see `_Redirects`."""
    handlers = (_Redirects(), _Http(watch), _Https(watch))
    opener = urllib.request.build_opener(*handlers)
    response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    return response


class _Plain(http.client.HTTPConnection):
    watch: Watch

    def getresponse(self) -> http.client.HTTPResponse:
        self.watch.over(self.sock)
        return super().getresponse()


class _Encrypted(http.client.HTTPSConnection):
    watch: Watch

    def getresponse(self) -> http.client.HTTPResponse:
        self.watch.over(self.sock)
        return super().getresponse()


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._kind = functools.partial(_watched, _Plain, watch)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._kind = functools.partial(_watched, _Encrypted, watch)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


def _watched(
    kind: Callable[..., _Plain | _Encrypted], watch: Watch, host: str, **options: object
) -> _Plain | _Encrypted:
    connection = kind(host, **options)
    connection.watch = watch
    return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects over the web only, none that gives up encryption, and none into a private network.

    A host of the private network may be the one that was asked for; then it may redirect to itself.
    """

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See urllib. Raises DataError for another scheme or a private address."""
        allowed = {"https"} if req.type == "https" else {"http", "https"}
        new = urlsplit(newurl)
        if new.scheme not in allowed:
            fp.close()
            raise DataError(f"{req.full_url} redirects to {newurl!r}.", "Don't use this address: correct --sources.")
        asked = urlsplit(f"//{req.origin_req_host}").hostname
        if new.hostname is not None and new.hostname != asked and _is_private(new.hostname):
            fp.close()
            raise DataError(
                f"{req.full_url} redirects into a private network, to {newurl!r}.",
                "If that is where the data are, name that address in --sources.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_private(host: str) -> bool:
    """Whether a name or number leads to this machine, its network, or anywhere else that the world can't reach."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # no name here: of a proxy, which looks it up, or of nobody
    for *_, place in found:
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        if not inner.is_global or inner.is_multicast:
            return True
    return False

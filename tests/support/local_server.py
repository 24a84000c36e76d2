"""A web server on the loopback that can break off, refuse ranges or change its files, for tests of downloads."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` (name to content). Attributes set the tricks; `requests` records (name, Range, status).

    A query after a name is neither looked at nor recorded; `headers` holds a file's own. `drip`: these bytes, and then
    one more each so many seconds, in place of the answer. `endless`: the file again and again.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None, int]] = []
        self.break_off_after: int | None = None
        self.has_ranges = True
        self.tells_length = True
        self.range_told: Callable[[int, int], str | None] | None = None
        self.redirects: dict[str, str] = {}
        self.tag = '"1"'
        self.headers: dict[str, dict[str, str]] = {}
        self.drip: tuple[bytes, float] | None = None
        self.endless = False
        self.url = ""


@contextmanager
def serve() -> Iterator[FileServer]:
    state, stopped = FileServer(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/").partition("?")[0]
            wanted = self.headers.get("Range")
            if state.drip is not None:
                self._drip(*state.drip)
                return
            if name in state.redirects:
                self.send_response(302)
                self.send_header("Location", state.redirects[name])
                self.end_headers()
                return
            if name not in state.files:
                state.requests.append((name, wanted, 404))
                self.send_error(404)
                return
            content, start, status = state.files[name], 0, 200
            same = self.headers.get("If-Range") in {None, state.tag}
            if wanted and state.has_ranges and same:
                start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(content) and status == 206:
                state.requests.append((name, wanted, 416))
                self.send_error(416)
                return
            state.requests.append((name, wanted, status))
            self.send_response(status)
            for header, value in {"ETag": state.tag, **state.headers.get(name, {})}.items():
                self.send_header(header, value)
            if status == 206:
                told: str | None = f"bytes {start}-{len(content) - 1}/{len(content)}"
                if state.range_told is not None:
                    told = state.range_told(start, len(content))
                if told is not None:
                    self.send_header("Content-Range", told)
            body = content[start:]
            if state.tells_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            while state.endless:
                self.wfile.write(body)
            self.wfile.write(body if state.break_off_after is None else body[: state.break_off_after])

        def _drip(self, begun: bytes, seconds: float) -> None:
            self.wfile.write(begun)
            while not stopped.wait(seconds):
                self.wfile.write(b"x")

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # whoever asked has had enough
                super().handle()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()

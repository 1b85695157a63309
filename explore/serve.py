"""The page on 127.0.0.1, refreshed while runs go on."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastpipe.errors import ArgumentError
from fastpipe.explore.limits import FILES, left_out
from fastpipe.explore.page.build import page
from fastpipe.explore.payload import as_json

HOST = "127.0.0.1"
PORT = 8765
_FRESH_S = 2.0  # several readers within this time share one look at the folders
_NAMES = (HOST, "localhost")

Values = Mapping[str, Any]


class Fresh:
    """What the folders hold now, looked up at most once in `_FRESH_S`, and a tag that changes with it."""

    def __init__(self, look: Callable[[], Values]) -> None:
        self._look, self._lock = look, threading.Lock()
        self._at_s = -_FRESH_S
        self._values: Values = {}
        self._tag = ""

    def values(self) -> tuple[Values, str]:
        """The values and their tag."""
        with self._lock:
            if time.monotonic() - self._at_s >= _FRESH_S:
                self._values = self._look()
                told = {key: value for key, value in self._values.items() if key != "created"}
                self._tag = (
                    f'"{hashlib.sha256(as_json(told).encode(errors="backslashreplace")).hexdigest()[:32]}"'
                )
                self._at_s = time.monotonic()
            return self._values, self._tag


class Server(ThreadingHTTPServer):
    """Serves `/`, `/data.json` and the pages beside runs, to this machine alone and to no other site."""

    daemon_threads = True
    allow_reuse_address = False  # a port that another program holds is an error, on every system

    def __init__(self, port: int, look: Callable[[], Values]) -> None:
        self.fresh = Fresh(look)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ArgumentError(f"--serve must be a free port. Found: {port}, {_why(error)}") from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_address[1]}/"


def _why(error: OSError | OverflowError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "which another program uses. Name another one, or 0 for any free port"
    return f"which cannot be opened ({getattr(error, 'strerror', None) or error})"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, its data, or 404."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host not in _NAMES:  # a site whose name was pointed here must not read the runs
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"open this page as http://127.0.0.1\n")
            return
        path, _, query = self.path.partition("?")
        if path == "/page":
            self._send_page(dict(parse_qsl(query)))
            return
        if path not in ("/", "/data.json"):
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"not here\n")
            return
        values, tag = self.server.fresh.values()
        if path == "/":
            self._send(
                HTTPStatus.OK, "text/html; charset=utf-8", page(values).encode(errors="backslashreplace")
            )
        elif self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, "application/json", b"", tag)
        else:
            self._send(
                HTTPStatus.OK, "application/json", as_json(values).encode(errors="backslashreplace"), tag
            )

    def _send_page(self, asked: Mapping[str, str]) -> None:
        """A page beside a run. It is sandboxed: what a run folder holds must not read this page's data."""
        values, _ = self.server.fresh.values()
        reason = ""
        run: Mapping[str, Any] = next((run for run in values["runs"] if run["id"] == asked.get("run")), {})
        name = asked.get("name")
        try:
            path = Path(run["place"], name) if name and name in run.get("pages", ()) else None
            reason = left_out(FILES, path) if path is not None else ""
            found = path.read_bytes() if path is not None and not reason else None
        except OSError:
            found = None
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", (reason or "not here").encode() + b"\n")
        else:
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", found, policy="sandbox allow-scripts")

    def _send(self, status: HTTPStatus, kind: str, body: bytes, tag: str = "", policy: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if tag:
            self.send_header("ETag", tag)
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page that asks every few seconds would fill the terminal."""

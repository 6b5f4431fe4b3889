"""A web server for weights with scripted failures."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WeightsServer:
    """``files``: content by path. ``script``: failures of the next responses, in order. ``requests``: (path, Range)."""

    files: dict[str, bytes] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    etag: str | None = '"v1"'
    url: str = ""
    ranges: bool = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        weights = self.server.weights  # type: ignore[attr-defined]
        weights.requests.append((self.path, self.headers.get("Range")))
        failure = weights.script.pop(0) if weights.script else ""
        self.close_connection = True
        body = weights.files.get(self.path)
        if failure.isdigit():
            return self._send(int(failure), b"")
        if failure.startswith("to "):
            return self._send(302, b"", {"Location": failure.removeprefix("to ")})
        if body is None:
            return self._send(404, b"")
        return self._send_file(weights, body, failure)

    def _send_file(self, weights, body, failure):
        headers = {"ETag": weights.etag} if weights.etag else {}
        offset = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        fits = self.headers.get("If-Range") in (None, weights.etag)
        status = 200
        if offset and weights.ranges and fits:
            if offset >= len(body):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            status, headers["Content-Range"] = 206, f"bytes {offset}-{len(body) - 1}/{len(body)}"
            body = body[offset:]
        if failure == "gzip":
            headers["Content-Encoding"] = "gzip"
        cut = len(body) // 2 if failure == "break" else len(body)
        return self._send(status, body[:cut], headers, announced=len(body))

    def _send(self, status, body, headers=None, announced=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def weights_server(**fields):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.weights = WeightsServer(**fields)  # type: ignore[attr-defined]
    server.weights.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.weights  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

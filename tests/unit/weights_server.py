"""A web server for weights that can be told to misbehave, one answer after the other."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Shop:
    """``files``: path to bytes. ``script``: what goes wrong with the next answers, in order; then all is well."""

    files: dict[str, bytes] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    etag: str | None = '"v1"'
    url: str = ""
    ranges: bool = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        shop = self.server.shop
        shop.seen.append((self.path, self.headers.get("Range")))
        trouble = shop.script.pop(0) if shop.script else ""
        self.close_connection = True
        body = shop.files.get(self.path)
        if trouble.isdigit():
            return self._answer(int(trouble), b"")
        if trouble.startswith("to "):
            return self._answer(302, b"", {"Location": trouble.removeprefix("to ")})
        if body is None:
            return self._answer(404, b"")
        return self._deliver(shop, body, trouble)

    def _deliver(self, shop, body, trouble):
        headers = {"ETag": shop.etag} if shop.etag else {}
        begun = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        fits = self.headers.get("If-Range") in (None, shop.etag)
        status = 200
        if begun and shop.ranges and fits:
            if begun >= len(body):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            status, headers["Content-Range"] = 206, f"bytes {begun}-{len(body) - 1}/{len(body)}"
            body = body[begun:]
        if trouble == "zipped":
            headers["Content-Encoding"] = "gzip"
        cut = len(body) // 2 if trouble == "break" else len(body)
        return self._answer(status, body[:cut], headers, announced=len(body))

    def _answer(self, status, body, headers=None, announced=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def open_shop(**given):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.shop = Shop(**given)
    server.shop.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

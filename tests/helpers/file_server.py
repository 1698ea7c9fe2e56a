"""A file server on 127.0.0.1 for tests: it serves ranges properly, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """How one request is answered; by default, properly.

    Attributes:
        status: another status, with an empty body.
        headers: headers to add or replace; an empty value removes one.
        cut_after: bytes of the body after which the connection is closed.
        hang: says nothing until the server stops.
        ignore_range: 200 and the whole file, whatever was asked for.
        ignore_if_range: the range asked for, even of a file that has changed.
        body: other bytes than the file's, of which headers and ETag tell nothing.
        chunked: sent in chunks, without a length.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    hang: bool = False
    ignore_range: bool = False
    ignore_if_range: bool = False
    body: bytes | None = None
    chunked: bool = False


class FileServer:
    """Serves `files` (path without the leading slash → bytes) until `stop`.

    `answers[path]` are used up by the GET requests for that path, one each; then `default[path]`
    holds. HEAD requests get `head[path]`. `requests` lists (method, path, headers) as they came.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.default: dict[str, Answer] = {}
        self.head: dict[str, Answer] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def gets(self, path: str) -> list[str | None]:
        """The Range headers of the GET requests for `path`, in order; None where there was none."""
        return [headers.get("Range") for m, p, headers in self.requests if (m, p) == ("GET", path)]

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                path = self._log()
                self._answer(path, server.head.get(path, Answer()))

            def do_GET(self) -> None:
                path = self._log()
                queue = server.answers.get(path)
                self._answer(path, queue.pop(0) if queue else server.default.get(path, Answer()))

            def _log(self) -> str:
                path = self.path.lstrip("/")
                server.requests.append((self.command, path, dict(self.headers)))
                self.close_connection = True
                return path

            def _answer(self, path: str, answer: Answer) -> None:
                if answer.hang:
                    server.stopping.wait()
                    return
                content = server.files.get(path)
                if answer.status is not None or content is None:
                    self._send(answer.status or 404, {}, b"", answer)
                    return
                etag = f'"{hashlib.md5(content).hexdigest()}"'
                headers = {"ETag": etag, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
                start = self._start(etag, answer)
                if start >= len(content) > 0:
                    self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"", answer)
                elif start > 0:
                    end = f"{len(content) - 1}/{len(content)}"
                    headers["Content-Range"] = f"bytes {start}-{end}"
                    self._send(206, headers, content[start:], answer)
                else:
                    self._send(200, headers, content, answer)

            def _start(self, etag: str, answer: Answer) -> int:
                match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                changed = self.headers.get("If-Range", etag) not in (etag, self._date)
                if not match or answer.ignore_range or (changed and not answer.ignore_if_range):
                    return 0
                return int(match[1])

            _date = "Mon, 01 Jan 2024 00:00:00 GMT"

            def _send(
                self, status: int, headers: dict[str, str], body: bytes, answer: Answer
            ) -> None:
                body = body if answer.body is None else answer.body
                length = {} if answer.chunked else {"Content-Length": str(len(body))}
                chunked = {"Transfer-Encoding": "chunked"} if answer.chunked else {}
                self.send_response(status)
                for name, value in (headers | length | chunked | answer.headers).items():
                    if value:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                if self.command == "HEAD":
                    return
                sent = body if answer.cut_after is None else body[: answer.cut_after]
                if answer.chunked:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
                    self.wfile.write(b"0\r\n\r\n" if answer.cut_after is None else b"")
                else:
                    self.wfile.write(sent)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

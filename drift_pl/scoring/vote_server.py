"""The page on which people vote, and its server; by itself it is a reward server for `http_judge` (docs/http_judge.md).

    python -m drift_pl.scoring.vote_server [--votes votes.jsonl] [--mode ranking|clicks] [--voters 1] [--port 8002]

Whoever has the address can vote: it has a random token in its path. The server listens on this machine alone unless
told otherwise, answers no other `Host`, takes votes from its own page only (`Origin`), and bounds every request.
"""

import base64
import binascii
import contextlib
import hmac
import json
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line
from drift_pl.scoring.example_server import Parser, bound, port_number
from drift_pl.scoring.vote_book import Group, VoteBook

PAGE = Path(__file__).parent / "vote.html"
LARGEST_VOTE, LARGEST_REQUEST, LONGEST_NAME = 2**16, 512 * 2**20, 80
"""Bytes of a vote, bytes of a request for scores, and characters of a voter's name."""
MOST_REQUESTS, PATIENCE_S = 64, 30.0
"""Requests that are answered at a time, and seconds in which the headers of one, or the next part of it, must come."""
HTTP_PORT = 80
"""Which clients leave out of `Host`."""
POLICY = "default-src 'none'; img-src 'self'; connect-src 'self'; script-src 'nonce-{0}'; style-src 'nonce-{0}'"


class VoteServer(ThreadingHTTPServer):
    """A bound server; `serve_forever` runs it.

    Args:
        book: of the votes.
        host, port: where it listens; port 0 takes a free one.
        names: further values of `Host` that it answers to, such as the name of a machine that others use.
        wait_s: seconds after which a request for scores is answered with 503, to be sent again.
    """

    daemon_threads = True

    def __init__(
        self, book: VoteBook, host: str = "127.0.0.1", port: int = 0, names: tuple[str, ...] = (), wait_s: float = 60.0
    ) -> None:
        super().__init__((host, port), VoteHandler)
        self.book, self.token, self.wait_s = book, secrets.token_urlsafe(16), wait_s
        self.places = threading.BoundedSemaphore(MOST_REQUESTS)
        port = self.server_address[1]
        own = [name.lower() for name in ("127.0.0.1", "localhost", host, *names)]  # as browsers send them
        self.hosts = {f"{name}:{port}" for name in own} | {*(own if port == HTTP_PORT else ())}
        self.names = names

    @property
    def address(self) -> str:
        host = str(self.server_address[0])
        if host == "0.0.0.0":
            host = self.names[0] if self.names else "127.0.0.1"
        return f"http://{host}:{self.server_address[1]}/{self.token}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no matter."""


class VoteHandler(BaseHTTPRequestHandler):
    """GET: the page, the next group, its images. POST: a vote, and images to be scored."""

    server: VoteServer
    timeout = PATIENCE_S
    gets: ClassVar[dict[str, str]] = {"": "_page", "next": "_next", "image": "_image"}
    posts: ClassVar[dict[str, str]] = {"vote": "_vote", "score": "_score"}

    def setup(self) -> None:
        super().setup()
        self._late = threading.Timer(PATIENCE_S, self._cut_off)  # `timeout` begins again with each byte
        self._late.daemon = True
        self._late.start()

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        self._late.cancel()
        super().finish()

    def do_GET(self) -> None:
        self._route(self.gets)

    def do_POST(self) -> None:
        self._route(self.posts)

    def _route(self, routes: dict[str, str]) -> None:
        self._late.cancel()
        parts = urlsplit(self.path).path.lstrip("/").split("/")
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            return self._say(403, "this is another host's name")
        if not hmac.compare_digest(parts[0].encode(), self.server.token.encode()):
            return self._say(404, "the address is not complete")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower().removeprefix("http://") not in self.server.hosts:
            return self._say(403, "another page's requests are not taken")
        name = routes.get(parts[1] if len(parts) > 1 else "")
        if name is None:
            return self._say(404, "there is nothing here")
        return getattr(self, name)(parts[2:])

    def _page(self, rest: list[str]) -> None:
        nonce = secrets.token_urlsafe(16)
        text = PAGE.read_text(encoding="utf-8").replace("{{nonce}}", nonce).replace("{{mode}}", self.server.book.mode)
        self._send(200, "text/html; charset=utf-8", text.encode(), POLICY.format(nonce))

    def _next(self, rest: list[str]) -> None:
        voter = parse_qs(urlsplit(self.path).query).get("voter", [""])[0][:LONGEST_NAME].strip()
        waiting = self.server.book.waiting(voter) if voter else []
        found: dict[str, Any] = {"waiting": len(waiting), "group": None}
        if waiting:
            found |= {"group": waiting[0].key, "prompt": waiting[0].prompt, "images": len(waiting[0].images)}
        self._json(200, found)

    def _image(self, rest: list[str]) -> None:
        index = int(rest[1]) if len(rest) == 2 and rest[1].isdecimal() and len(rest[1]) < 5 else -1
        image = self.server.book.image(rest[0], index) if index >= 0 else None
        if image is None:
            return self._say(404, "no such image waits for a vote")
        return self._send(200, "image/png", image)

    def _vote(self, rest: list[str]) -> None:
        if self.headers.get("Origin") is None:
            return self._say(403, "votes come from the page")
        try:
            body = json.loads(self._body(LARGEST_VOTE))
            voter = str(body["voter"]).strip()
            if not 0 < len(voter) <= LONGEST_NAME:
                raise ValueError(f"a name has 1 to {LONGEST_NAME} characters")
            self.server.book.vote(str(body["group"]), voter, body["order"])
        except OSError as error:
            return self._say(500, f"the vote was not kept: {first_line(error)}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return self._say(400, str(error))
        return self._json(200, {"kept": True})

    def _score(self, rest: list[str]) -> None:
        """The contract of `http_judge`; neighbours with the same prompt are one group."""
        try:
            body = json.loads(self._body(LARGEST_REQUEST))
            pairs = list(zip(map(str, body["prompts"]), body["images"], strict=True))
            "".join(prompt for prompt, _ in pairs).encode()  # half of a character has no digest
            groups = [
                Group(prompt, tuple(base64.b64decode(image, validate=True) for _, image in images))
                for prompt, images in groupby(pairs, lambda pair: pair[0])
            ]
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
            return self._say(400, str(error))
        scores = self.server.book.scores(groups, time.monotonic() + self.server.wait_s)
        if scores is None:
            return self._say(503, "nobody has voted yet; ask again")
        return self._json(200, {"scores": [score for group in scores for score in group]})

    def _body(self, most: int) -> bytes:
        """Reads the body of a request, once its headers have shown that its size and type are allowed.

        Raises:
            ValueError: it is missing, too large, or not JSON by its header.
        """
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or not 0 < int(length) <= most:
            self.close_connection = True
            raise ValueError(f"a request has 1 to {most} bytes")
        if self.headers.get_content_type() != "application/json":
            raise ValueError("a request is application/json")
        return self.rfile.read(int(length))

    def _say(self, status: int, message: str) -> None:
        self._json(status, {"error": message})

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, kind: str, body: bytes, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        headers |= {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the address holds the token."""


def main() -> None:
    parser = Parser(description="A page on which people vote on images; a server for http_judge.")
    parser.add_argument("--votes", default="votes.jsonl", help="file that keeps every vote")
    parser.add_argument("--mode", choices=["ranking", "clicks"], default="ranking")
    parser.add_argument("--voters", type=int, default=1, help="people who must have voted on a group, 1 or more")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--name", action="append", default=[], help="name by which other machines reach this one")
    parser.add_argument("--port", type=port_number, default=8002)
    options = parser.parse_args()
    try:
        book = VoteBook(Path(options.votes), options.mode, options.voters)
    except UserError as error:
        parser.error(f"--{error}")  # it begins with the argument's name
    with bound(parser, options, lambda: VoteServer(book, options.host, options.port, tuple(options.name))) as server:
        print(f"vote at {server.address}", flush=True)
        print(f"reward: {{name: http_judge, args: {{url: {server.address}score, attempts: 1000000}}}}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()

"""An example reward server, to copy and adapt: `python -m drift_pl.scoring.example_server --port 8001`.

It scores an image by its brightness. Replace `score` by your own model, detector or checker; the protocol is described
in docs/http_judge.md. The file needs only Pillow, not drift_pl, so it can run in a separate environment.
"""

import argparse
import base64
import contextlib
import errno
import io
import json
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn, TypeVar

from PIL import Image, ImageStat

LARGEST_REQUEST_BYTES = 512 * 2**20
Bound = TypeVar("Bound", bound=ThreadingHTTPServer)
Metadata = Sequence[Mapping[str, Any] | None]
"""For each image the other fields of its prompt's line, or None; None for all if the run sends none."""


def score(images: Sequence[Image.Image], prompts: Sequence[str], metadata: Metadata) -> list[float | None]:
    """One score per image, higher is better; None for an image that cannot be scored. Here: mean brightness.

    Whatever `float` takes is a score: numbers of numpy, a tensor of one value.

    Raises:
        ValueError: the metadata cannot be used; the run ends with this message, as with that of any other error.
    """
    return [sum(ImageStat.Stat(image).mean) / 3 / 255 for image in images]


class Handler(BaseHTTPRequestHandler):
    """POST {"images": [base64 PNG], "prompts": [text]} to any path is answered with {"scores": [number or null]}."""

    protocol_version = "HTTP/1.1"
    scoring = threading.Lock()  # requests arrive concurrently; most models handle one at a time
    token: str | None = None
    score: Callable[[Sequence[Image.Image], Sequence[str], Metadata], list[float | None]] = staticmethod(score)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= LARGEST_REQUEST_BYTES:
            self.close_connection = True
            return self._answer(413, {"error": f"a request has 1 to {LARGEST_REQUEST_BYTES} bytes"})
        body = self.rfile.read(length)
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            return self._answer(401, {"error": "wrong or missing bearer token"})
        try:
            scores = self._scores(body)
        except Exception as error:  # also those of a model: without an answer the run would blame a missing server
            if not isinstance(error, KeyError | TypeError | ValueError | OSError):
                traceback.print_exc()  # no fault of the request: whoever wrote `score` wants the place
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # not 500, which the run sends again and again
            return self._answer(400, {"error": ": ".join([type(error).__name__, *lines[:1]])})
        return self._answer(200, {"scores": scores})

    def _scores(self, body: bytes) -> list[float | None]:
        """Numbers that JSON has, whatever kind of number `score` gives.

        Raises:
            KeyError, TypeError, ValueError, OSError: the body is no such request, or holds no images.
            Exception: `score` fails.
        """
        request = json.loads(body)
        prompts = [str(prompt) for prompt in request["prompts"]]
        images = [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in request["images"]]
        metadata = request.get("metadata") or [None] * len(prompts)
        if not len(images) == len(prompts) == len(metadata):
            raise ValueError(f"{len(images)} images, {len(prompts)} prompts, {len(metadata)} metadata")
        with self.scoring:
            scores = self.score(images, prompts, metadata)
            return [None if each is None else float(each) for each in scores]

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent; by default http.server prints every request."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with an argument in one line on stderr, without the usage, and ends with status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def port_number(text: str) -> int:
    """A port of a command line, 0 to 65535.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text} is no port; give 1 to 65535, or 0 for a free one")
    return int(text)


def bound(parser: argparse.ArgumentParser, options: argparse.Namespace, make: Callable[[], Bound]) -> Bound:
    """The server that `make` binds to `options.host` and `options.port`; or one line, and the end with status 2."""
    try:
        return make()
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name of no form that names have
        reason = getattr(error, "strerror", None) or str(error)
        taken = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        remedy = "--port 0, which takes a free one" if taken else "--host 127.0.0.1, which is this machine"
        parser.error(f"--host {options.host} --port {options.port}: cannot listen there ({reason}); use {remedy}")


def serve(host: str, port: int, token: str | None = None, scores: Callable[..., Any] = score) -> ThreadingHTTPServer:
    """A bound server; `serve_forever` runs it."""
    handler = type("JudgeHandler", (Handler,), {"token": token, "score": staticmethod(scores)})
    return ThreadingHTTPServer((host, port), handler)


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Where it listens."""
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--port", type=port_number, default=8001)
    parser.add_argument("--token-env", help="environment variable with the bearer token that requests must carry")
    return parser


def listen(
    parser: argparse.ArgumentParser, options: argparse.Namespace, scores: Callable[..., Any] = score
) -> ThreadingHTTPServer:
    """A server on its port, where requests wait for `answer`: models load after it, so never for a port in use.

    It ends the command with one line and status 2 if it cannot listen, or its token is not set.
    """
    token = None
    if options.token_env:
        token = os.environ.get(options.token_env) or parser.error(f"${options.token_env} is not set")
    return bound(parser, options, lambda: serve(options.host, options.port, token, scores))


def answer(server: ThreadingHTTPServer, options: argparse.Namespace) -> None:
    """Answers requests until it is interrupted."""
    print(f"scoring on http://{options.host}:{server.server_address[1]}/score", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, scores: Callable[..., Any] = score) -> None:
    """Serves until it is interrupted."""
    answer(listen(parser, options, scores), options)


def main() -> None:
    parser = Parser(description="Example reward server: scores images by their brightness.")
    run(parser, add_arguments(parser).parse_args())


if __name__ == "__main__":
    main()

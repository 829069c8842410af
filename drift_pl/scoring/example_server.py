"""An example reward server, to copy and adapt: `python -m drift_pl.scoring.example_server --port 8001`.

It scores an image by its brightness. Replace `score` by your own model, detector or checker; the protocol is described
in docs/http_judge.md. The file needs only Pillow, not drift_pl, so it can run in a separate environment.
"""

import argparse
import base64
import io
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageStat

LARGEST_REQUEST_BYTES = 512 * 2**20
Metadata = Sequence[Mapping[str, Any] | None]
"""For each image the other fields of its prompt's line, or None; None for all if the run sends none."""


def score(images: Sequence[Image.Image], prompts: Sequence[str], metadata: Metadata) -> list[float | None]:
    """One score per image, higher is better; None for an image that cannot be scored. Here: mean brightness.

    Raises:
        ValueError: the metadata cannot be used; the run ends with this message.
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
            request = json.loads(body)
            prompts = [str(prompt) for prompt in request["prompts"]]
            images = [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in request["images"]]
            metadata = request.get("metadata") or [None] * len(prompts)
            if not len(images) == len(prompts) == len(metadata):
                raise ValueError(f"{len(images)} images, {len(prompts)} prompts, {len(metadata)} metadata")
            with self.scoring:
                scores = self.score(images, prompts, metadata)
        except (KeyError, TypeError, ValueError, OSError) as error:
            return self._answer(400, {"error": f"{type(error).__name__}: {error}"})
        return self._answer(200, {"scores": scores})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent; by default http.server prints every request."""


def serve(host: str, port: int, token: str | None = None, scores: Callable[..., Any] = score) -> ThreadingHTTPServer:
    """A bound server; `serve_forever` runs it."""
    handler = type("JudgeHandler", (Handler,), {"token": token, "score": staticmethod(scores)})
    return ThreadingHTTPServer((host, port), handler)


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Where it listens."""
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--token-env", help="environment variable with the bearer token that requests must carry")
    return parser


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, scores: Callable[..., Any] = score) -> None:
    """Serves until it is interrupted."""
    token = None
    if options.token_env:
        token = os.environ.get(options.token_env) or parser.error(f"${options.token_env} is not set")
    server = serve(options.host, options.port, token, scores)
    print(f"scoring on http://{options.host}:{server.server_address[1]}/score", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Example reward server: scores images by their brightness.")
    run(parser, add_arguments(parser).parse_args())


if __name__ == "__main__":
    main()

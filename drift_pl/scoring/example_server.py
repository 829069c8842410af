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
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageStat

LARGEST_REQUEST_BYTES = 512 * 2**20


def score(images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float | None]:
    """One score per image, higher is better; None for an image that cannot be scored. Here: mean brightness."""
    return [sum(ImageStat.Stat(image).mean) / 3 / 255 for image in images]


class Handler(BaseHTTPRequestHandler):
    """POST {"images": [base64 PNG], "prompts": [text]} to any path is answered with {"scores": [number or null]}."""

    protocol_version = "HTTP/1.1"
    scoring = threading.Lock()  # requests arrive concurrently; most models handle one at a time
    token: str | None = None

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
            if len(images) != len(prompts):
                raise ValueError(f"{len(images)} images and {len(prompts)} prompts")
        except (KeyError, TypeError, ValueError, OSError) as error:
            return self._answer(400, {"error": f"{type(error).__name__}: {error}"})
        with self.scoring:
            scores = score(images, prompts)
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


def serve(host: str, port: int, token: str | None = None) -> ThreadingHTTPServer:
    """A bound server; `serve_forever` runs it."""
    return ThreadingHTTPServer((host, port), type("JudgeHandler", (Handler,), {"token": token}))


def main() -> None:
    parser = argparse.ArgumentParser(description="Example reward server: scores images by their brightness.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--token-env", help="environment variable with the bearer token that requests must carry")
    options = parser.parse_args()
    token = None
    if options.token_env:
        token = os.environ.get(options.token_env) or parser.error(f"${options.token_env} is not set")
    server = serve(options.host, options.port, token)
    print(f"scoring on http://{options.host}:{server.server_address[1]}/score", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()

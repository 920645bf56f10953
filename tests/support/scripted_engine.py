"""An engine that does what its environment says; run by the gateway in place of llama-server.

`--host` is the Unix socket to listen on. Of the environment: `LOADING`, seconds until it listens;
`DIES`, whether it ends at once; `TOKENS`, whether it answers anything but `/health`.
A prompt of `die` ends it, and one of `hang` is never answered.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler

CHUNKS = ("Once ", "upon ", "a time.")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "gateway"

    def do_GET(self) -> None:
        self.answer(b"{}", "application/json")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = json.dumps(asked)
        if '"die"' in said:
            os._exit(3)
        if '"hang"' in said:
            time.sleep(600)
        if "messages" in asked:
            self.answer(
                b"".join(map(event, [*CHUNKS, None])) + b"data: [DONE]\n\n", "text/event-stream"
            )
        else:
            self.answer(
                b'{"choices":[{"text":"x","index":0,"finish_reason":"length"}]}', "application/json"
            )

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def event(text: str | None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": None if text else "stop"}
    return b"data: " + json.dumps({"model": "m", "choices": [choice]}).encode() + b"\n\n"


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    print("loading", flush=True)
    time.sleep(float(os.environ.get("LOADING", "0")))
    if os.environ.get("DIES"):
        sys.exit("there is no such model")
    with Server(sys.argv[sys.argv.index("--host") + 1], Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()

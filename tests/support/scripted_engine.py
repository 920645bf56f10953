"""An engine that does what its environment says; run by the gateway in place of another.

`--host`, or, as vLLM has it, `--uds`, is the Unix socket to listen on. It loads and drops adapters
as vLLM does, and answers a chat with one by its path. Of the environment: `LOADING`, seconds until
it listens; `DIES`, whether it ends at once; `TOKENS`, whether it answers anything but `/health`.
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
ADAPTERS: dict[str, str] = {}
"""What it has loaded: by name, the path."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "gateway"

    def do_GET(self) -> None:
        cards = [{"id": n, "root": p, "parent": "m"} for n, p in ADAPTERS.items()]
        listed = {"data": cards} if self.path == "/v1/models" else {}
        self.answer(json.dumps(listed).encode(), "application/json")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = json.dumps(asked)
        if '"die"' in said:
            os._exit(3)
        if '"hang"' in said:
            time.sleep(600)
        if "lora_name" in asked:
            if self.path == "/v1/load_lora_adapter":
                ADAPTERS[asked["lora_name"]] = asked["lora_path"]
            else:
                del ADAPTERS[asked["lora_name"]]
            self.answer(b"{}", "application/json")
            return
        if "messages" in asked:
            said = [ADAPTERS[asked["model"]]] if asked.get("model") in ADAPTERS else CHUNKS
            self.answer(
                b"".join(map(event, [*said, None])) + b"data: [DONE]\n\n", "text/event-stream"
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
    flag = "--host" if "--host" in sys.argv else "--uds"
    with Server(sys.argv[sys.argv.index(flag) + 1], Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()

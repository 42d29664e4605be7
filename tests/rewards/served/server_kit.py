"""A real HTTP server on loopback that answers, fails and is slow as a test says."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from omnistage.rewards.served.client import JudgeSettings

AT_ONCE = JudgeSettings(first_wait=0)

Answer = Callable[[dict[str, Any]], Any]


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that gives up waiting is part of the tests."""


class Server:
    """Answers POST requests with ``answer`` after the first ``faults`` were answered in turn."""

    def __init__(self, answer: Answer, faults: list[int]) -> None:
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append((self.path, body, self.headers["Authorization"]))
                    status = faults.pop(0) if faults else 200
                if status == 0:  # a dropped connection
                    self.close_connection = True
                    return
                content = answer(body) if status == 200 else {"error": "busy"}
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test's output clean."""

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def lengths(body: dict[str, Any]) -> dict[str, list[float]]:
    return {"rewards": [float(len(q)) for q in body["query"]], "acc_rewards": []}


def reply(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}

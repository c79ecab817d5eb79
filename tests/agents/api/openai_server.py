"""A local HTTP server that speaks OpenAI's chat protocol and misbehaves on demand."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Request"], None]
"""Answers one request, well or badly."""


@dataclass
class Request:
    """One request: its number from 0, its JSON, its headers, and what answering needs."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]
    handler: BaseHTTPRequestHandler

    @property
    def prompt(self) -> str:
        return next(p["text"] for p in self.body["messages"][0]["content"] if p["type"] == "text")

    @property
    def picture(self) -> str:
        return next(
            p["image_url"]["url"] for p in self.body["messages"][0]["content"] if p["type"] == "image_url"
        )

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.handler.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(data)


def document(
    message: dict[str, Any], finish: str = "stop", tokens: tuple[int, int] | None = (100, 10)
) -> bytes:
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]} if tokens else None
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def says(text: str, **kwargs: Any) -> Answer:
    return lambda request: request.send(200, document({"content": text}, **kwargs))


def action(name: str) -> Answer:
    return says(json.dumps({"thoughts": "hm", "action": name}))


def status(code: int, text: str = "no", headers: dict[str, str] | None = None) -> Answer:
    return lambda request: request.send(code, json.dumps({"error": {"message": text}}).encode(), headers)


def raw(data: bytes) -> Answer:
    return lambda request: request.send(200, data)


def refuses(request: Request) -> None:
    request.send(200, document({"content": None, "refusal": "I cannot help with that."}))


def no_choices(request: Request) -> None:
    request.send(200, json.dumps({"choices": [], "usage": None}).encode())


def cuts(request: Request) -> None:
    """Promises more than it sends, then hangs up."""
    request.handler.send_response(200)
    request.handler.send_header("Content-Length", "1000")
    request.handler.end_headers()
    request.handler.wfile.write(b'{"choices": [')
    request.handler.wfile.flush()
    request.handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Server:
    """The running server: what it was asked, and how it answers."""

    answer: Answer = field(default_factory=lambda: action("+"))
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def hold(self, request: Request) -> None:
        """No answer until the test is over."""
        self.released.wait(60)

    @contextmanager
    def running(self) -> Iterator[Server]:
        lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    request = Request(len(owner.requests), body, dict(self.headers.items()), self)
                    owner.requests.append(request)
                with suppress(BrokenPipeError, ConnectionResetError):
                    owner.answer(request)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            server.server_close()
            thread.join()


def in_turn(*answers: Answer, then: Answer) -> Answer:
    """The first request gets the first answer, ...; all later ones get ``then``."""
    return lambda request: (answers[request.number] if request.number < len(answers) else then)(request)

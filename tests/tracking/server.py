"""The parts of W&B's server that its client uses: accepts runs, rows and files, and answers a resumed run with its state."""

import gzip
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Held:
    """State of a run at the server: every row in the order it was sent, with repetitions."""

    about: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None
    begun: int = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.runs: dict[str, Held] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.received: list[bytes] = []
        self.deleted: set[str] = set()
        """Trials whose runs were deleted: their ids cannot be used again."""
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client may leave when it likes
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "someone"}}
        if "RunResumeStatus" in query:
            held = self.runs.get(variables["name"])
            return {"model": project | {"bucket": held and _bucket(variables["name"], held)}}
        if "UpsertBucket" in query:
            if json.loads(variables.get("config") or "{}").get("trial_id", {}).get("value") in self.deleted:
                raise PermissionError(f"run {variables['name']} was previously created and deleted; try a new run name")
            inserted = variables["name"] not in self.runs
            held = self.runs.setdefault(variables["name"], Held())
            held.begun += variables.get("displayName") is not None
            held.about |= {key: value for key, value in variables.items() if value is not None}
            bucket = {"id": "b", "name": variables["name"], "displayName": "", "description": "", "config": "{}", "sweepName": None}
            return {"upsertBucket": {"bucket": bucket | {"project": project, "historyLineCount": len(held.rows)}, "inserted": inserted}}
        if "CreateRunFiles" in query:
            self.runs[variables["run"]].files += variables["files"]
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "upsertView" in query:
            inserted = variables.get("id") is None
            report_id = f"report{len(self.reports)}" if inserted else variables["id"]
            self.reports[report_id] = dict(variables)
            view = {"id": report_id, "type": "runs", "name": variables["name"], "displayName": variables["displayName"]}
            about = {"description": variables["description"], "spec": variables["spec"], "updatedAt": None}
            where = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            return {"upsertView": {"view": view | about | {"project": where}, "inserted": inserted}}
        if "ProjectInternalId" in query:
            return {"project": {"id": "p", "internalId": "1"}}
        if "GetProjects" in query:
            known = {
                "id": "p",
                "name": "trials-of-ours",
                "entityName": "someone",
                "createdAt": "2026-03-01T00:00:00",
                "isBenchmark": False,
                "user": None,
            }
            edges = [{"node": known, "cursor": "c"}]
            return {"models": {"edges": edges, "pageInfo": {"endCursor": "c", "hasNextPage": False}}}
        if "viewer" in query:
            return {"viewer": {"id": "u", "entity": "someone", "username": "someone"}}
        return {}

    def stream(self, run_id: str, sent: Mapping[str, Any]) -> None:
        held = self.runs[run_id]
        files = sent.get("files") or {}
        rows = files.get("wandb-history.jsonl", {"content": []})
        held.rows += [json.loads(line) for line in rows["content"]]
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            held.summary = json.loads(line)
        if sent.get("complete"):
            held.exit_code = sent["exitcode"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: object) -> None: ...

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_POST(self) -> None:
        sent = json.loads(self._body() or b"{}")
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        with self.server.lock:
            if stream:
                self.server.stream(stream[1], sent)
                self._reply({})
            else:
                try:
                    self._reply({"data": self.server.answer(sent.get("query", ""), sent.get("variables") or {})})
                except PermissionError as refusal:
                    self._reply({"data": None, "errors": [{"message": str(refusal)}]})

    def _body(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append(f"{self.path}\n".encode() + body)
        return body

    def _reply(self, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _bucket(run_id: str, held: Held) -> dict[str, Any]:
    return {
        "id": "b", "name": run_id, "displayName": held.about.get("displayName"), "notes": held.about.get("notes"),
        "tags": held.about.get("tags"), "config": held.about.get("config", "{}"), "wandbConfig": json.dumps({"t": 1}),
        "summaryMetrics": json.dumps(held.summary), "historyLineCount": len(held.rows), "logLineCount": 0, "eventsLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in held.rows[-1:]]), "eventsTail": "[]",
    }  # fmt: skip


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    server = Server(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a server that accepts connections (the kernel does) and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"

"""Hands for the tests of the GitHub simulator: requests over real HTTP, and a receiver of its events."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.github.conftest import TOKEN


class Hands:
    """A client: answers a status and the decoded body, and keeps the last answer."""

    def __init__(self, github, token=TOKEN):
        self.github = github
        self.http = httpx.Client(base_url=github.url, trust_env=False, headers={"authorization": f"Bearer {token}"})
        self.last = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def as_(self, token, method, path, body=None):
        """The status of a request with another token."""
        return self(method, path, body, authorization=f"Bearer {token}")[0]

    def __call__(self, method, path, body=None, **headers):
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        self.last = self.http.request(method, path, json=body, headers=sent)
        kind = self.last.headers.get("content-type", "")
        return self.last.status_code, self.last.json() if "json" in kind and self.last.content else self.last.content

    def get(self, path, status=200):
        answer = self("GET", path)
        assert answer[0] == status, answer
        return answer[1]

    def post(self, path, body=None, status=201):
        answer = self("POST", path, body)
        assert answer[0] == status, answer
        return answer[1]

    def hook(self, url="http://127.0.0.1:9/in", events=("*",), root="/repos/acme/web"):
        config = {"url": url, "content_type": "json", "secret": "s3cret"}
        return self.post(f"{root}/hooks", {"config": config, "events": list(events)})

    def delivered(self, hook, root="/repos/acme/web"):
        """The payloads that a hook was sent, oldest first, with their event; pings left out."""
        rows = self.get(f"{root}/hooks/{hook['id']}/deliveries?per_page=100")
        path = f"{root}/hooks/{hook['id']}/deliveries"
        whole = [self.get(f"{path}/{row['id']}") for row in reversed(rows) if row["event"] != "ping"]
        return [(row["event"], row["request"]["payload"]) for row in whole]


def put_workflows(github, *workflows, repo="acme/web"):
    github.admin.put_state({"workflows": {repo: list(workflows)}})


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiving():
    """An HTTP server that keeps what it is sent in ``got`` and answers ``status``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.got, server.status = [], 204
    server.url = f"http://127.0.0.1:{server.server_port}/in"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

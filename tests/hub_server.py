"""A server on loopback that answers as the hub does, and one who fetches from it."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seqbench.errors import UserError
from seqbench.readers.downloads import HubFile, fetch_hub

COMMIT, OTHER = "c0ffee" + "0" * 34, "0ddba11" + "0" * 33
TRAIN, TEST = b"text,label\ngood,1\nbad,0\n" * 2000, b"text,label\nfine,1\n"
RESOLVE = f"/datasets/someone/set/resolve/{COMMIT}/data/"
FILES = [
    HubFile("someone/set", "data/train.csv", COMMIT, hashlib.sha256(TRAIN).hexdigest()),
    HubFile("someone/set", "data/test.csv", COMMIT),
]


class Answer:
    """What the server sends: ``cut`` bytes of the body at most, then the line goes dead (or silent, if ``stall``)."""

    def __init__(self, status=200, body=b"", headers=None, cut=None, stall=False):
        self.status, self.body, self.headers, self.cut, self.stall = status, body, headers or {}, cut, stall


def blob(body):
    """The tag of a small file: its git blob."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.seen.append(f"{self.command} {self.path}")
        server.sent.append(dict(self.headers))
        path = self.path.partition("?")[0]
        troubles = server.troubles.get(path, [])
        answer = (troubles.pop(0) if len(troubles) > 1 or not server.forever else troubles[0]) if troubles else None
        answer = answer or server.files.get(path) or Answer(404, b"Entry not found")
        self.send_response(answer.status)
        length = {} if "Transfer-Encoding" in answer.headers else {"Content-Length": len(answer.body)}
        for name, value in {**length, **answer.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):
            self.wfile.write(answer.body[: answer.cut])
            self.wfile.flush()
            if answer.stall:
                server.stalled.set()
                server.release.wait(20)
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    """The hub, with one data set; ``troubles`` are answers for a path that come before the right one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.sent, server.troubles, server.forever = [], [], {}, False
    server.stalled, server.release = threading.Event(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    commit = {"X-Repo-Commit": COMMIT}
    # a large file lies elsewhere, and the hub says its SHA-256 and size when it sends one there
    large = {**commit, "X-Linked-Etag": f'"{hashlib.sha256(TRAIN).hexdigest()}"', "X-Linked-Size": len(TRAIN)}
    server.files = {
        "/api/datasets/someone/set/revision/main": Answer(body=json.dumps({"sha": COMMIT, "siblings": []}).encode()),
        RESOLVE + "train.csv": Answer(302, headers={**large, "Location": "/cdn/abc?signed=1"}),
        "/cdn/abc": Answer(body=TRAIN, headers={**large, "ETag": '"of the store"'}),
        RESOLVE + "test.csv": Answer(body=TEST, headers={**commit, "ETag": f'"{blob(TEST)}"'}),
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("HF_HUB_OFFLINE", "SEQBENCH_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


class User:
    """Fetches into ``folder``; remembers what was said and how long it would have waited."""

    def __init__(self, folder):
        self.folder, self.said, self.waits = folder, [], []

    def fetch(self, files=FILES, **options):
        fetch_hub(files, self.folder, self.said.append, sleep=self.waits.append, **options)

    def refused(self, *what, files=FILES):
        """The sentence a failing fetch ends with, which leaves nothing behind."""
        before = sorted(self.folder.parent.rglob("*"))
        with pytest.raises(UserError) as caught:
            self.fetch(files)
        assert sorted(self.folder.parent.rglob("*")) == before
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert sentence.endswith(".")
        for word in what:
            assert word in sentence, sentence
        return sentence


@pytest.fixture
def user(tmp_path):
    (tmp_path / "hub").mkdir()
    return User(tmp_path / "hub" / "sentiment")

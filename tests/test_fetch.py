"""Downloads against a server on loopback that answers as the hub and Yahoo do, and as they do on a bad day."""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from seqbench.data import cache as prepared
from seqbench.data.fetch import HubFile, fetch_hub, fetched, sidecar
from seqbench.data.yahoo import OPTIONS, check_ticker, fetch_prices
from seqbench.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
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


def test_files_their_commit_and_their_hashes_arrive(hub, user):
    user.fetch()
    found = fetched(user.folder, "sentiment")
    assert {name: path.read_bytes() for name, path in found.items()} == {"train.csv": TRAIN, "test.csv": TEST}
    about = json.loads((user.folder / "fetched.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", about["fetched_at"])
    assert about["files"]["train.csv"] == {
        "repo": "someone/set",
        "path": "data/train.csv",
        "revision": COMMIT,
        "sha256": hashlib.sha256(TRAIN).hexdigest(),
        "bytes": len(TRAIN),
    }
    assert sorted(path.name for path in user.folder.parent.rglob("*")) == [
        "fetched.json",
        "sentiment",
        "test.csv",
        "train.csv",
    ]
    assert user.waits == []
    assert f"GET {RESOLVE}train.csv" in hub.seen
    assert not any("/api/" in line for line in hub.seen)  # the commit is known


def test_no_password_goes_along(hub, user, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    user.fetch()
    assert hub.sent
    assert not any("authorization" in map(str.lower, headers) for headers in hub.sent)


def test_what_is_there_is_kept_unless_forced(hub, user):
    user.fetch()
    requests = len(hub.seen)
    user.fetch()
    assert len(hub.seen) == requests
    assert "already fetched" in user.said[-1]
    user.fetch(force=True)
    assert len(hub.seen) == 2 * requests
    hub.files[RESOLVE + "test.csv"] = Answer(body=b"new", headers={"ETag": f'"{blob(b"new")}"'})
    user.fetch([FILES[0], HubFile("someone/set", "data/test.csv", COMMIT, hashlib.sha256(b"new").hexdigest())])
    assert fetched(user.folder, "sentiment")["test.csv"].read_bytes() == b"new"


def test_a_commit_that_is_not_known_is_asked_for_once_and_held_to(hub, user):
    unknown = [HubFile("someone/set", file.path, None) for file in FILES]
    user.fetch(unknown)
    assert [line for line in hub.seen if "/api/" in line] == ["GET /api/datasets/someone/set/revision/main"]
    assert {file["revision"] for file in sidecar(user.folder)["files"].values()} == {COMMIT}
    hub.files["/api/datasets/someone/set/revision/main"] = Answer(body=json.dumps({"sha": OTHER}).encode())
    (user.folder / "test.csv").write_bytes(b"damaged")
    user.fetch(unknown)
    user.fetch(unknown, force=True)
    assert len([line for line in hub.seen if "/api/" in line]) == 1
    assert fetched(user.folder, "sentiment")["test.csv"].read_bytes() == TEST


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"sha": 3}', b'{"sha": "main"}'])
def test_a_hub_that_does_not_tell_the_commit(hub, user, body):
    hub.files["/api/datasets/someone/set/revision/main"] = Answer(body=body)
    user.refused("which commit", "try again later", files=[HubFile("someone/set", "data/test.csv", None)])


@pytest.mark.parametrize("path", [RESOLVE + "train.csv", "/cdn/abc"])
def test_errors_of_the_server_are_tried_again(hub, user, path):
    hub.troubles[path] = [Answer(500), Answer(503)]
    user.fetch()
    assert user.waits == [1, 2]
    assert "error 500: trying again in 1 s" in user.said[0]


def test_errors_for_ever_end_in_a_sentence(hub, user):
    hub.troubles[RESOLVE + "test.csv"] = [Answer(502)]
    hub.forever = True
    user.refused("502", "try again later", "--source embedded")
    assert user.waits == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=11'}, 11),
        ({"Retry-After": "soon"}, 1),
        ({"Retry-After": ""}, 1),
        ({}, 1),
    ],
)
def test_a_limit_is_waited_for(hub, user, headers, wait):
    hub.troubles[RESOLVE + "test.csv"] = [Answer(429, headers=headers)]
    user.fetch()
    assert user.waits == [wait]


def test_a_limit_with_a_date(hub, user):
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    hub.troubles[RESOLVE + "test.csv"] = [Answer(429, headers={"Retry-After": at})]
    user.fetch()
    assert 15 < user.waits[0] <= 20


def test_a_limit_for_ever_or_too_long_to_wait_for(hub, user):
    hub.forever = True
    hub.troubles[RESOLVE + "test.csv"] = [Answer(429, headers={"Retry-After": "3"})]
    user.refused("429", "wait 3 s", "--source embedded")
    assert user.waits == [3, 3, 4, 8]
    user.waits.clear()
    hub.troubles[RESOLVE + "test.csv"] = [Answer(429, headers={"Retry-After": "3600"})]
    user.refused("429", "wait 3600 s")
    assert user.waits == []


CUT = {
    "length": Answer(body=TEST, headers={"ETag": blob(TEST)}, cut=5),
    "chunks": Answer(body=b"5\r\nabcde\r\n", headers={"Transfer-Encoding": "chunked"}),
    "store": Answer(body=TEST[:7], headers={"ETag": blob(TEST)}),  # a whole body, of half the file
    "flipped": Answer(body=TEST.swapcase(), headers={"ETag": blob(TEST)}),
    "empty": Answer(body=b"", headers={"ETag": blob(TEST)}),
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
def test_a_torn_body_is_noticed_and_tried_again(hub, user, answer):
    hub.troubles[RESOLVE + "test.csv"] = [answer]
    user.fetch()
    assert user.waits == [1]
    assert fetched(user.folder, "sentiment")["test.csv"].read_bytes() == TEST


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
def test_a_torn_body_for_ever(hub, user, answer):
    hub.troubles[RESOLVE + "test.csv"], hub.forever = [answer], True
    user.refused("the download of data/test.csv of someone/set", "try again, or take --source embedded")


def test_a_large_file_torn_by_the_store(hub, user):
    hub.files["/cdn/abc"] = Answer(body=TRAIN[:-1])  # its own length is right: only the hub's hash can tell
    user.refused("arrived damaged", files=[HubFile("someone/set", "data/train.csv", COMMIT)])


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_set_that_is_gone(hub, user, status):
    hub.troubles[RESOLVE + "test.csv"] = [Answer(status)]
    user.refused(str(status), "update seqbench", "--source embedded")
    assert user.waits == []


def test_another_file_than_the_known_one_is_not_kept(hub, user):
    wrong = HubFile("someone/set", "data/test.csv", COMMIT, "0" * 64)
    user.refused("SHA-256 differs", "nothing was kept", files=[FILES[0], wrong])


def test_another_commit_than_the_one_asked_for(hub, user):
    hub.files[RESOLVE + "test.csv"].headers["X-Repo-Commit"] = OTHER
    user.refused("served someone/set at '0ddba110'", "nothing was kept")


def test_nobody_listens(user, monkeypatch, hub):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        user.refused("can't be reached", "go online", "--source embedded")
    assert user.waits == [1, 2, 4, 8]


def test_a_server_that_falls_silent(hub, user, monkeypatch):
    monkeypatch.setattr("seqbench.data.hub.TIMEOUT", (0.2, 0.1))
    hub.troubles[RESOLVE + "test.csv"] = [Answer(body=TEST, cut=3, stall=True)]
    user.fetch()
    assert user.waits == [1]


@pytest.mark.parametrize(
    "target",
    [
        "http://192.0.2.1/x",
        "https://192.0.2.1/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "//192.0.2.1/x",
        "http://[",
    ],
)
def test_a_redirect_to_another_place_is_refused(hub, user, target):
    hub.files[RESOLVE + "test.csv"] = Answer(302, headers={"Location": target})
    user.refused("127.0.0.1")
    assert user.waits == []


@pytest.mark.parametrize("store", ["https://store.example/x", "http://store.example/x"])
def test_https_leads_to_https_only(user, monkeypatch, store):
    asked = []

    def get(session, url, **options):
        assert options["allow_redirects"] is False
        asked.append(url)
        answer = requests.Response()
        answer.status_code, answer.raw = (302, io.BytesIO()) if len(asked) == 1 else (200, io.BytesIO(TEST))
        # what another host says of the commit or the hash counts for nothing
        answer.headers.update({"Location": store, "ETag": blob(TEST)} if len(asked) == 1 else {"X-Repo-Commit": OTHER})
        return answer

    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(requests.Session, "get", get)
    if store.startswith("https"):
        user.fetch(FILES[1:])
    else:
        user.refused("http://store.example", "refused", files=FILES[1:])
    assert asked == [f"https://hub.example{RESOLVE}test.csv", store][: len(asked)]
    assert len(asked) == (2 if store.startswith("https") else 1)


def test_a_redirect_in_a_circle(hub, user):
    hub.files[RESOLVE + "test.csv"] = Answer(307, headers={"Location": RESOLVE + "test.csv"})
    user.refused("in a circle")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, TEST, {"Content-Length": "many"}),
        Answer(206, TEST),
        Answer(304),
        Answer(302),
        Answer(418, TEST),
        Answer(200, TEST, {"Content-Encoding": "gzip"}),
    ],
    ids=lambda answer: f"{answer.status} {answer.headers}",
)
def test_answers_that_make_no_sense(hub, user, answer):
    hub.troubles[RESOLVE + "test.csv"], hub.forever = [answer], True
    user.refused()


def test_a_body_without_end(hub, user, monkeypatch):
    monkeypatch.setattr("seqbench.data.hub.LARGEST", 1000)
    user.refused("larger than any set")


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "SEQBENCH_OFFLINE"])
def test_offline_means_no_connection(hub, user, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    user.refused(name, "unset it", "--source embedded")
    with pytest.raises(UserError, match=name):
        fetch_prices("AAPL", "2020-01-01", "2020-02-01", user.folder, print, download=pytest.fail)
    assert hub.seen == []
    monkeypatch.setenv(name, "0")
    user.fetch()


def test_the_caches_wish_to_be_offline_is_not_the_users(hub, user, monkeypatch):
    with prepared._offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    user.fetch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    with prepared._offline():
        pass
    assert os.environ["HF_HUB_OFFLINE"] == "yes"


@pytest.mark.parametrize("endpoint", ["hub", "ftp://hub", "https://", "https://me:secret@hub"])
def test_an_endpoint_that_is_none(user, monkeypatch, hub, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "secret" not in user.refused("HF_ENDPOINT")


def test_files_that_were_not_fetched_or_are_damaged(hub, user):
    with pytest.raises(
        UserError, match=r"not been fetched: run `python run_bench.py data fetch sentiment` on a machine"
    ):
        fetched(user.folder, "sentiment")
    user.fetch()
    for damage in (b"", TEST[:-1], None):
        (user.folder / "test.csv").unlink() if damage is None else (user.folder / "test.csv").write_bytes(damage)
        with pytest.raises(UserError, match=r"is damaged: run `python run_bench.py data fetch sentiment` again"):
            fetched(user.folder, "sentiment")
        user.fetch()
        assert fetched(user.folder, "sentiment")["test.csv"].read_bytes() == TEST


CLIMBING = json.dumps(
    {"format": 1, "fetched_at": "", "files": {"../secret": {"sha256": hashlib.sha256(b"").hexdigest()}}}
)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"format": 2}', '{"format": 1, "fetched_at": "", "files": {}}', "\ud800", CLIMBING],
)
def test_a_sidecar_that_is_damaged(hub, user, text):
    (user.folder.parent / "secret").write_bytes(b"")
    user.folder.mkdir()
    (user.folder / "fetched.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match="is damaged"):
        fetched(user.folder, "sentiment")
    user.fetch()
    assert set(fetched(user.folder, "sentiment")) == {"train.csv", "test.csv"}


def test_an_interrupt_leaves_nothing(hub, user):
    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_hub(FILES, user.folder, interrupt)
    assert list(user.folder.parent.iterdir()) == []


def test_a_cache_that_cannot_be_written(hub, user):
    (user.folder.parent / "file").write_text("")
    user.folder = user.folder.parent / "file" / "sentiment"
    user.refused("can't be written", "SEQBENCH_CACHE")


def test_a_kill_in_the_middle_leaves_nothing_torn(hub, user):
    hub.files[RESOLVE + "test.csv"].cut = 5
    hub.files[RESOLVE + "test.csv"].stall = True
    script = (
        "import sys; from pathlib import Path; from seqbench.data.fetch import HubFile, fetch_hub\n"
        f"fetch_hub([HubFile(*item) for item in {[(f.repo, f.path, f.revision) for f in FILES]!r}],"
        " Path(sys.argv[1]), print)"
    )
    with subprocess.Popen([sys.executable, "-c", script, user.folder], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        assert hub.stalled.wait(20)
        process.send_signal(signal.SIGKILL)
    hub.release.set()
    (left,) = user.folder.parent.iterdir()
    assert left.name.startswith(".tmp-fetch-")
    hub.files[RESOLVE + "test.csv"] = Answer(body=TEST)
    user.fetch()
    assert left.is_dir()  # it could be another fetch that is at work
    os.utime(left, (0, 0))
    user.fetch(force=True)
    assert [path.name for path in user.folder.parent.iterdir()] == ["sentiment"]


@pytest.mark.parametrize("force", [False, True])
def test_fetches_at_once_leave_one_whole_set(hub, user, force):
    if force:
        user.fetch()
    failures, gate = [], threading.Barrier(4)

    def fetch():
        gate.wait()
        try:
            fetch_hub(FILES, user.folder, lambda line: None, force=force)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert fetched(user.folder, "sentiment")["train.csv"].read_bytes() == TRAIN
    assert [path.name for path in user.folder.parent.iterdir()] == ["sentiment"]


@pytest.mark.parametrize("force", [False, True])
def test_the_fetch_that_is_ready_first_stands(hub, user, force):
    if force:
        user.fetch()
        time.sleep(1.1)  # the sidecar's time is in seconds
    made = []

    def overtake(line):
        if not made:
            user.fetch(force=force)
            made.append(user.folder.stat().st_ino)

    fetch_hub(FILES, user.folder, overtake, force=force)
    assert [user.folder.stat().st_ino] == made


def test_the_hubs_own_client_reads_the_same_from_this_server(hub, tmp_path):
    """As far as huggingface_hub can tell this server is the hub: what is tested here is not a fancy."""
    script = (
        "import sys; from huggingface_hub import hf_hub_download\n"
        f"print(hf_hub_download('someone/set', 'data/' + sys.argv[1], repo_type='dataset', revision='{COMMIT}',"
        f" token=False, endpoint='{hub.url}', cache_dir=sys.argv[2]))"
    )
    for name, body in (("train.csv", TRAIN), ("test.csv", TEST)):
        done = subprocess.run(
            [sys.executable, "-c", script, name, tmp_path],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).read_bytes() == body


@given(st.text("ab./\\-~ :\0", max_size=12), st.sampled_from(["", ".csv", ".pkl", ".py", ".parquet", ".csv\n"]))
def test_a_path_stays_inside_and_holds_data(path, suffix):
    try:
        file = HubFile("someone/set", path + suffix, None)
    except ValueError:
        return
    assert file.path.endswith((".csv", ".parquet"))
    assert Path(file.name).name == file.name
    assert not set(file.path) & set("\\~ :\0\n")
    assert ".." not in file.path.split("/")


@pytest.mark.parametrize(
    "values",
    [
        ("set", "a.csv", COMMIT),
        ("../set", "a.csv", COMMIT),
        ("a/b/c", "a.csv", COMMIT),
        ("a/b", "a.csv", "main"),
        ("a/b", "a.csv", COMMIT.upper()),
        ("a/b", "a.csv", COMMIT, "0" * 63),
        ("a/b", "/a.csv", COMMIT),
        ("a/b", "data/fetched.json", COMMIT),
        ("a/b", "a.csv?x=.csv", COMMIT),
    ],
)
def test_files_that_cannot_be(values):
    with pytest.raises(ValueError, match=r"is no|is the name"):
        HubFile(*values)


def test_names_that_clash(user):
    with pytest.raises(ValueError, match="another name"):
        user.fetch([HubFile("a/b", "x/0.csv", COMMIT), HubFile("a/b", "y/0.csv", COMMIT)])


# -- Yahoo


def prices(days=("2020-01-02", "2020-01-03", "2020-01-06"), **changes):
    """A frame as yfinance returns it without levels."""
    n = len(days)
    columns = {
        "Close": np.arange(n) + 10.5,
        "High": np.arange(n) + 11.0,
        "Low": np.arange(n) + 9.0,
        "Open": np.arange(n) + 10.0,
        "Volume": np.arange(n) + 1000,
    }
    return pd.DataFrame({**columns, **changes}, index=pd.DatetimeIndex(list(days), name="Date"))


def levels(frame, *, first):
    """``frame`` with the ticker as a second level, or as the first."""
    other = frame.assign(Volume=5)
    both = pd.concat({"AAPL": frame, "MSFT": other}, axis=1, names=["Ticker", "Price"])
    return both if first else both.swaplevel(axis=1).sort_index(axis=1)


class Yahoo:
    """A download that gives one answer after the other, and remembers how it was called."""

    def __init__(self, folder, *answers):
        self.folder, self.answers, self.calls, self.waits, self.said = folder, list(answers), [], [], []

    def download(self, *words, **options):
        self.calls.append((words, options))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fetch(self, ticker="aapl", start="2020-01-01", end="2020-01-06", **options):
        options.setdefault("download", self.download)
        fetch_prices(ticker, start, end, self.folder, self.said.append, sleep=self.waits.append, **options)
        return pq.read_table(fetched(self.folder, "stock")["prices.parquet"])


@pytest.fixture
def yahoo(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "SEQBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "hub").mkdir()
    return functools.partial(Yahoo, tmp_path / "hub" / "AAPL")


@pytest.mark.parametrize(
    "frame",
    [
        prices(),
        levels(prices(), first=True),
        levels(prices(), first=False),
        prices().iloc[::-1],
        prices().tz_localize("America/New_York"),
        prices().rename(columns=str.lower)[["volume", "open", "low", "high", "close"]],
        pd.concat([prices(), prices().iloc[:1]]),
        pd.concat([prices(), prices(["2020-01-07"])]),  # past the end
        pd.concat([prices(), prices(["2020-01-04"]) * np.nan]),  # a day without trade
        prices().assign(Dividends=0.0),
    ],
    ids=["flat", "ticker first", "ticker last", "backwards", "zone", "lower", "twice", "too far", "NaN", "more"],
)
def test_prices_of_every_shape(yahoo, frame):
    table = yahoo(frame).fetch()
    assert str(table.schema).startswith(
        "date: date32[day]\nopen: double\nhigh: double\nlow: double\nclose: double\nvol"
    )
    assert table.to_pydict() == {
        "date": [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)],
        "open": [10, 11, 12],
        "high": [11, 12, 13],
        "low": [9, 10, 11],
        "close": [10.5, 11.5, 12.5],
        "volume": [1000, 1001, 1002],
    }


def test_prices_come_with_what_they_are(yahoo):
    user = yahoo(prices())
    user.fetch()
    ((words, options),) = user.calls
    assert words == ("AAPL",)
    assert options == {**OPTIONS, "start": "2020-01-01", "end": "2020-01-07"}  # yfinance leaves the end out
    assert options["auto_adjust"] is True
    about = sidecar(user.folder)
    assert (about["ticker"], about["start"], about["end"]) == ("AAPL", "2020-01-01", "2020-01-06")
    assert "redistributed" in about["terms"]
    assert about["options"] == OPTIONS
    assert set(about["files"]["prices.parquet"]) == {"sha256", "bytes"}
    user.fetch()
    assert len(user.calls) == 1
    user.fetch(force=True)
    user.fetch(start="2019-12-31")
    assert len(user.calls) == 3


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (prices().drop(columns="High"), "holds close, low, open, volume"),
        (prices().assign(**{"Adj Close": 1.0}), "adjusted"),
        (levels(prices(), first=True)[["MSFT"]], "no prices of AAPL"),
        (prices(Close=[1.0, np.nan, 2.0]), "a missing or infinite value on 2020-01-03"),
        (prices(Volume=[1.0, np.nan, 2.0]), "a missing or infinite value on 2020-01-03"),
        (prices(Open=[1.0, 2.0, np.inf]), "a missing or infinite value on 2020-01-06"),
        (prices(Low=[1.0, 0.0, 2.0]), "a price of zero or less on 2020-01-03"),
        (prices(Low=[1.0, 1.0, -2.0]), "a price of zero or less on 2020-01-06"),
        (prices(Volume=[1, -1, 1]), "a volume below zero on 2020-01-03"),
        (prices(Close=["a", "b", "c"]), "no number"),
        (pd.concat([prices(), prices().iloc[:1] * 2]), "two different rows on 2020-01-02"),
        (prices().reset_index(drop=True), "without a date"),
        (prices() * np.nan, "no prices of AAPL from 2020-01-01"),
        (prices(["1999-01-04"]), "no prices of AAPL from 2020-01-01"),
    ],
)
def test_prices_that_cannot_be_used(yahoo, frame, what):
    user = yahoo(frame)
    with pytest.raises(UserError, match=re.escape(what)) as caught:
        user.fetch()
    assert "\n" not in str(caught.value)
    assert list(user.folder.parent.iterdir()) == []


NOTHING = pd.DataFrame()


@pytest.mark.parametrize(
    ("answer", "what", "tries"),
    [
        (NOTHING, "sent no prices", 4),
        (None, "sent no prices", 4),
        (RuntimeError("YFRateLimitError('Too Many Requests')"), "wait an hour", 4),
        (OSError("Failed to perform, curl: (6) Could not resolve host"), "go online", 4),
        (ValueError("$AAPL: possibly delisted; no timezone found"), "check the ticker", 2),
    ],
)
def test_no_prices_for_ever(yahoo, answer, what, tries):
    user = yahoo(answer)
    with pytest.raises(UserError, match=what):
        user.fetch()
    assert len(user.calls) == tries
    assert user.waits == [5, 15, 45][: tries - 1]


def test_no_prices_at_first(yahoo):
    user = yahoo(NOTHING, OSError("timed out"), prices())
    assert len(user.fetch()) == 3
    assert user.waits == [5, 15]


def test_a_yfinance_that_takes_other_options(yahoo):
    with pytest.raises(UserError, match="version of yfinance"):
        yahoo(TypeError("download() got an unexpected keyword argument 'repair'")).fetch()


@pytest.mark.parametrize(
    "ticker", ["", ".", "..", "../A", "A/B", "A B", "A,B", "AAPL\n", "US0378331005", "A" * 16, "-A", "Ä"]
)
def test_tickers_that_cannot_be(yahoo, ticker):
    with pytest.raises(UserError, match="is no ticker"):
        yahoo(prices()).fetch(ticker)


def test_tickers_that_can_be():
    names = ["aapl", "BRK-B", "0700.HK", "^GSPC", "EURUSD=X", "RELIANCE.NS"]
    assert [check_ticker(name) for name in names] == [name.upper() for name in names]


@pytest.mark.parametrize(
    ("start", "end"),
    [("2020-02-30", "2021-01-01"), ("now", "2021-01-01"), ("2021-01-01", "2020-01-01"), ("2020-01-01", "2999-01-01")],
)
def test_days_that_cannot_be(yahoo, start, end):
    with pytest.raises(UserError, match=start):
        yahoo(prices()).fetch(start=start, end=end)


def chart():
    """What Yahoo's address for charts sends: three days of an hour in New York, and a dividend."""
    zone = ZoneInfo("America/New_York")
    days = [int(datetime(2020, 1, day, 9, 30, tzinfo=zone).timestamp()) for day in (2, 3, 6)]
    quote = {"open": [10, 11, 12], "high": [11, 12, 13], "low": [9, 10, 11], "close": [10, 11, 12], "volume": [7, 8, 9]}
    meta = {
        "symbol": "AAPL",
        "currency": "USD",
        "exchangeTimezoneName": "America/New_York",
        "timezone": "EST",
        "gmtoffset": -18000,
        "instrumentType": "EQUITY",
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "firstTradeDate": days[0],
        "regularMarketTime": days[-1],
        "validRanges": ["1d", "max"],
    }
    indicators = {"quote": [quote], "adjclose": [{"adjclose": [5, 5.5, 12]}]}
    return {"chart": {"result": [{"meta": meta, "timestamp": days, "indicators": indicators}], "error": None}}


def test_the_real_yfinance(hub, yahoo, monkeypatch, tmp_path):
    """yfinance itself, with its addresses turned to loopback and no cookie fetched: errors, then prices."""
    yfinance = pytest.importorskip("yfinance")
    yfinance.set_tz_cache_location(str(tmp_path / "zones"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # its other addresses lead nowhere
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("base", "scrapers.history"):
        monkeypatch.setattr(sys.modules[f"yfinance.{name}"], "_BASE_URL_", hub.url)
    monkeypatch.setattr(yfinance.data.YfData, "_get_cookie_and_crumb", lambda *words: (None, "basic"))
    yfinance.data.YfData.cache_get.cache_clear()
    path = "/v8/finance/chart/AAPL"
    whole = hub.files[path] = Answer(body=json.dumps(chart()).encode(), headers={"Content-Type": "application/json"})
    # the time zone and no prices, which yfinance would remember; then a limit: it asks a second time by itself
    hub.troubles[path] = [whole, Answer(body=b"{}"), Answer(429), Answer(429)]
    user = yahoo()
    table = user.fetch(download=None)
    assert user.said[:-1] == [
        "Yahoo knows no prices of it for these days: trying again in 5 s",
        "Yahoo limits how often it is asked: trying again in 15 s",
    ]
    assert table.to_pydict() == {
        "date": [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)],
        "open": [5, 5.5, 12],  # half of what was paid before the dividend: adjusted
        "high": [5.5, 6, 13],
        "low": [4.5, 5, 11],
        "close": [5, 5.5, 12],
        "volume": [7, 8, 9],
    }

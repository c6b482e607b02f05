"""Downloads against a server on loopback that answers as the hub does: what arrives is whole, and stays so."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hub_server
import pytest
from hub_server import COMMIT, FILES, OTHER, RESOLVE, TEST, TRAIN, Answer, blob
from hypothesis import given
from hypothesis import strategies as st

from seqbench.errors import UserError
from seqbench.readers.downloads import HubFile, fetch_hub, fetched, sidecar

ROOT = Path(__file__).resolve().parents[1]
hub, user = hub_server.hub, hub_server.user  # the fixtures


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
        "import sys; from pathlib import Path; from seqbench.readers.downloads import HubFile, fetch_hub\n"
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

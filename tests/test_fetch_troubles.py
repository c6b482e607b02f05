"""Downloads on a bad day: a server that errs, limits, tears, redirects and falls silent, and no way to it at all."""

import io
import os
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import hub_server
import pytest
import requests
from hub_server import COMMIT, FILES, OTHER, RESOLVE, TEST, TRAIN, Answer, blob

import seqbench.prepare as prepared
from seqbench.errors import UserError
from seqbench.readers.downloads import HubFile, fetch_prices, fetched

hub, user = hub_server.hub, hub_server.user  # the fixtures


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
    monkeypatch.setattr("seqbench.readers.downloads.TIMEOUT", (0.2, 0.1))
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
    monkeypatch.setattr("seqbench.readers.downloads.LARGEST", 1000)
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

"""Prepared data: warm equals cold, damage is found and mended, two builders don't mix."""

import dataclasses
import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from seqbench.errors import UserError
from seqbench.prepare import MANIFEST, fit_baselines, load_or_build, prepare
from seqbench.task import TASKS, parse_options

TOYS = ["toy-first", "toy-wave", "toy-text"]


def build(task):
    spec = TASKS.get(task)
    return spec.load("embedded", parse_options(spec, {}))


def same(a, b):
    for name, split in a.splits.items():
        other = b.splits[name]
        assert type(split) is type(other) and len(split) == len(other)
        for field, array in split.arrays().items():
            assert np.array_equal(array, other.arrays()[field]) and array.dtype == other.arrays()[field].dtype
        truth = split.truth()
        assert np.array_equal(truth.groups, other.truth().groups) and set(truth.meta) == set(other.truth().meta)
    for item in ("vocabulary", "features", "classes", "notes"):
        assert getattr(a, item) == getattr(b, item)
    return True


@pytest.mark.parametrize("task", TOYS)
def test_what_comes_back_is_what_was_prepared(tmp_path, task):
    data = build(task)
    assert same(data, load_or_build(tmp_path / "x", lambda: data))
    assert same(data, load_or_build(tmp_path / "x", lambda: pytest.fail("built twice")))


def test_the_cache_is_a_dataset_dict(tmp_path):
    import datasets

    data = build("toy-first")
    load_or_build(tmp_path / "x", lambda: data)
    loaded = datasets.load_from_disk(str(tmp_path / "x"))
    assert np.array_equal(loaded["train"].with_format("numpy")["inputs"][:], data.train.inputs)


def damages():
    def truncate(folder):
        file = next(folder.rglob("*.arrow"))
        file.write_bytes(file.read_bytes()[:-100])

    def empty(folder):
        next(folder.rglob("*.arrow")).write_bytes(b"")

    def flip(folder):
        file = next(folder.rglob("*.arrow"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    def remove(folder):
        next(folder.rglob("*.arrow")).unlink()

    def spoil(folder):
        (folder / MANIFEST).write_text("{")

    def lie(folder):
        (folder / MANIFEST).write_text('{"files": {}, "splits": {}, "info": {}}')

    return [truncate, empty, flip, remove, spoil, lie]


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_cache_is_set_aside_and_built_again(tmp_path, damage):
    data = build("toy-wave")
    load_or_build(tmp_path / "x", lambda: data)
    damage(tmp_path / "x")
    assert same(data, load_or_build(tmp_path / "x", lambda: data))
    assert (tmp_path / "x.damaged").is_dir()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="set SEQBENCH_CACHE"):
        load_or_build(tmp_path / "file" / "x", lambda: build("toy-wave"))


def _build_at(folder, barrier, queue):
    barrier.wait()
    data = load_or_build(folder, lambda: build("toy-first"))
    queue.put(len(data.train))


def test_builders_at_the_same_time_leave_one_whole_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_build_at, args=(tmp_path / "x", barrier, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=60) for _ in workers] == [600] * 4
    for worker in workers:
        worker.join(30)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_killed_builder_leaves_no_cache_that_could_be_taken_for_one(tmp_path):
    def die():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_build(tmp_path / "x", die)
    assert list(tmp_path.iterdir()) == []


def test_other_options_are_other_data_and_baselines_are_fitted_once():
    said = []
    first = prepare("toy-wave", {"sequence_length": "9"}, say=said.append)
    assert first.folder != prepare("toy-wave", {}).folder and first.data.train.sequence_length == 9
    scores = fit_baselines(first, said.append)
    count = len(said)
    assert fit_baselines(first, said.append) == scores and len(said) == count
    assert set(scores) == {"persistence", "ridge"} and set(scores["ridge"]) == {"val", "test"}


def test_a_damaged_baseline_is_fitted_again():
    prepared = prepare("toy-wave", {"sequence_length": 8})
    scores = fit_baselines(prepared)
    file = prepared.folder.parent / f"{prepared.folder.name}.baselines" / "ridge.json"
    file.write_text(file.read_text()[:20])
    assert fit_baselines(prepared) == scores


def test_a_warm_start_needs_neither_datasets_nor_torch(cache, tmp_path):
    prepare("weather", {})
    code = (
        "import sys; from seqbench.prepare import prepare; prepare('weather', {});"
        "print([name for name in ('torch', 'datasets', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sequence_lenght": "5"}, "did you mean sequence_length"),
        ({"sequence_length": "long"}, "must be of type int"),
        ({"sequence_length": "1.5"}, "must be of type int"),
        ({"twist": "maybe"}, "must be of type bool"),
    ],
)
def test_wrong_options_are_one_sentence(given, says):
    with pytest.raises(UserError, match=says):
        parse_options(TASKS.get("toy-wave"), given)
    assert dataclasses.asdict(parse_options(TASKS.get("toy-wave"), {"twist": "TRUE"}))["twist"] is True

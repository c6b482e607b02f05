"""The checkpoint's file: whole or not used, without a pickle, the same numbers as were saved."""

import json
import pickle
import random
import shutil
from pathlib import Path

import pytest
import safetensors
import torch
from checkpoint_runs import checkpoint_in, dies, finished, killed, left
from safetensors.torch import load_file, save_file

from seqbench.training import CHECKPOINT, Checkpoint

pytestmark = pytest.mark.usefixtures("short")


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_its_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


def flipped_in_the_weights(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def flipped_in_the_counts(path):
    content = path.read_bytes()
    assert content.count(rb"\"steps\": 10,") == 1
    path.write_bytes(content.replace(rb"\"steps\": 10,", rb"\"steps\": 11,"))


def of_another_seed(path):
    out = path.parents[4]
    killed(out / "other", seed=1)
    shutil.copy(checkpoint_in(out / "other"), path)


def of_a_model_that_is_as_large(path):
    out = path.parents[4]
    killed(out / "other", learning_rate=0.02)
    shutil.copy(checkpoint_in(out / "other"), path)


def of_other_contents(path):
    save_file({"model.weight": torch.zeros(3)}, path)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def a_pickle(path):
    path.write_bytes(pickle.dumps(Trap()))


def a_pickle_of_torch(path):
    torch.save({"model": Trap()}, path)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        without_its_last_byte,
        empty,
        gone,
        flipped_in_the_weights,
        flipped_in_the_counts,
        of_another_seed,
        of_a_model_that_is_as_large,
        of_other_contents,
        a_pickle,
        a_pickle_of_torch,
    ],
)
def test_a_checkpoint_that_is_not_what_was_saved_is_not_used(tmp_path, undisturbed, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    killed(out)
    damage(checkpoint_in(out))
    outcome, reported = finished(out)
    assert reported[0] == 1 and not outcome.record.cost.interrupted
    assert left(outcome) == undisturbed()
    assert [path.name for path in outcome.folder.parent.iterdir()] == ["run-1"]
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("what", "other"), [("torch.__version__", "9.0.0"), ("device_name", lambda device: "an abacus")]
)
def test_a_checkpoint_of_another_torch_or_machine_is_not_used(tmp_path, undisturbed, monkeypatch, what, other):
    with monkeypatch.context() as patch:
        patch.setattr(f"seqbench.training.{what}", other)
        killed(tmp_path)
        assert killed(tmp_path)[0] == 11  # there it would be
    outcome, reported = finished(tmp_path)
    assert reported[0] == 1 and not outcome.record.cost.interrupted and left(outcome) == undisturbed()


@pytest.fixture
def small(tmp_path):
    """A checkpoint of a few numbers."""
    checkpoint = Checkpoint(tmp_path / "cell" / CHECKPOINT, "key", torch.device("cpu"))
    tensors = {"model.a": torch.randn(3, 2), "best.a": torch.zeros(0, 4), "count.0": torch.tensor(7.0)}
    tensors |= {
        "model.half": torch.randn(3).bfloat16(),
        "model.odd": torch.randn(4, 3).T,
        "model.is": torch.ones(2) > 0,
    }
    counts = {
        "fit": {"steps": 20, "train_seconds": 0.1 + 0.2, "curve": [{"step": 10, "val": 1e-17}]},
        "best": [None, 1],
    }
    checkpoint.save(tensors, counts)
    return checkpoint, tensors, counts


def test_what_is_loaded_is_what_was_saved_and_the_generator_goes_on(small):
    checkpoint, tensors, counts = small
    drawn = torch.rand(5)
    found = checkpoint.load()
    assert torch.equal(torch.rand(5), drawn)
    with checkpoint.path.open("r+b") as file:  # the very file that was read, not one in its place
        file.write(bytes(checkpoint.path.stat().st_size))
    assert found[1] == counts and found[0].keys() == tensors.keys()
    assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)
    assert all(found[0][name].dtype == tensors[name].dtype for name in tensors)
    assert [path.name for path in checkpoint.path.parent.iterdir()] == [CHECKPOINT]
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None


def test_no_flipped_bit_changes_what_is_loaded(small):
    """Many of the header, where the counts are, and some others; the caller's generator is not touched."""
    checkpoint, tensors, counts = small
    content, before = checkpoint.path.read_bytes(), torch.get_rng_state()
    header = 8 + int.from_bytes(content[:8], "little")
    rest = random.Random(0).sample(range(8 * header, 8 * len(content)), 200)
    shape = 8 * content.index(b"[0,4]")  # of a tensor without elements, which any other shape would fit as well
    for bit in [*range(0, 8 * header, 11), *range(shape, shape + 40), *rest]:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        checkpoint.path.write_bytes(changed)
        found = checkpoint.load()
        if found is None:
            assert torch.equal(torch.get_rng_state(), before), bit
        else:  # a bit that means nothing, a blank say
            assert bit < 8 * header and found[1] == counts and found[0].keys() == tensors.keys(), bit
            assert all(torch.equal(found[0][name], tensors[name]) for name in tensors), bit


def test_a_checkpoint_is_safetensors_and_json_alone(tmp_path):
    killed(tmp_path)
    path = checkpoint_in(tmp_path)
    with safetensors.safe_open(path, "pt") as file:
        about = file.metadata()
    assert about.keys() == {"mark", "counts", "sha256"}
    counts = json.loads(about["counts"])
    assert counts["fit"]["steps"] == 10 and [point["step"] for point in counts["fit"]["curve"]] == [10]
    names = {name.partition(".")[0] for name in load_file(path)}
    assert names == {"model", "best", "mean", "square", "count", "loss", "generator"}


def test_a_save_that_fails_leaves_the_one_before(small, monkeypatch):
    checkpoint, tensors, counts = small
    content = checkpoint.path.read_bytes()
    for target in ("os.fsync", "pathlib.Path.replace", "seqbench.training.to_safetensors"):
        with monkeypatch.context() as patch:
            dies(patch, target, 1, OSError(28, "No space left on device"))
            with pytest.raises(OSError, match="No space left"):
                checkpoint.save(tensors, {})
        assert [path.name for path in checkpoint.path.parent.iterdir()] == [CHECKPOINT]
    assert checkpoint.path.read_bytes() == content and checkpoint.load()[1] == counts

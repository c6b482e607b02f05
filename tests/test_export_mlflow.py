"""Runs in MLflow's store, read back with its own client."""

import pytest
from board_records import write

pytest.importorskip("mlflow", reason="mlflow is not installed")


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    return lambda: MlflowClient(tracking_uri=f"sqlite:///{(tmp_path / 'out' / 'mlflow.db').as_posix()}")


def runs_of(client):
    """All runs that stand, over all experiments."""
    return [run for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]


@pytest.fixture
def root(tmp_path):
    """Three good runs and one that diverged."""
    for seed in range(3):
        write(tmp_path / "records", "alpha", seed, 0.8 + seed / 100)
    write(tmp_path / "records", "gamma", 0, None, reason="the training loss is nan")
    return tmp_path / "records"


def test_every_run_is_whole_and_says_what_its_record_says(here, root, client):
    done = here("export", root, "--to", "mlflow", "--out", "out")
    assert done.returncode == 0 and "4 runs written; 1 did not end well" in done.stdout, done.stdout + done.stderr
    runs = runs_of(client())
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]
    for run in runs:
        config, metrics, tags = run.data.params, run.data.metrics, run.data.tags
        assert config["learning_rate"] == "0.003" and tags["seqbench.sha256"]
        if config["model"] == "gamma":
            assert "the training loss is nan" in tags.values() and "test/accuracy" not in metrics
            continue
        value = 0.8 + int(config["seed"]) / 100
        assert metrics["test/accuracy"] == pytest.approx(value) and metrics["baseline/tfidf"] == 0.75
        curve = client().get_metric_history(run.info.run_id, "curve/val_accuracy")
        assert [(point.step, point.value) for point in sorted(curve, key=lambda point: point.step)] == [
            (100 * i, pytest.approx(value - 0.1 / i + 0.025)) for i in range(1, 5)
        ]


def test_again_writes_nothing_and_a_run_that_was_cut_off_is_replaced(here, root, client):
    assert here("export", root, "--to", "mlflow", "--out", "out").returncode == 0
    cut = runs_of(client())[0]
    client().delete_tag(cut.info.run_id, "seqbench.sha256")  # which is written at last
    assert "1 run written" in here("export", root, "--to", "mlflow", "--out", "out").stdout
    runs = runs_of(client())
    assert len(runs) == 4 and cut.info.run_id not in {run.info.run_id for run in runs}
    assert "0 runs written" in here("export", root, "--to", "mlflow", "--out", "out").stdout

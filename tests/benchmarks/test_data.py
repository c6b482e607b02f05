"""Preparing the data of every registered task from its shipped files, without the cache."""

import pytest


@pytest.mark.benchmark(group="data")
def test_prepare(measure, task_name):
    from seqbench.task import TASKS, Source

    spec = TASKS.get(task_name).at("embedded")
    measure(lambda: spec.load(Source("embedded"), spec.options()))

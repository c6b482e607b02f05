"""Preparing the data of every registered task from its shipped files, without the cache.

It is done once in each process, as some take seconds. The quickest comes first, untimed: it imports what all need.
"""

import pytest


@pytest.mark.benchmark(group="data")
def test_prepare(measure, task_name):
    from seqbench.task import TASKS, Source

    def prepare(name):
        spec = TASKS.get(name).at("embedded")
        return spec.load(Source("embedded"), spec.options())

    prepare("stock")
    measure(lambda: prepare(task_name), once=True)

"""A user's own file as a task's data: one module a shape of file, each a set of fields that replace those of a task.

``variants={"path": texts.VARIANT}`` in `register_task` is all that a task needs. The splits are honest by default:
groups and near-duplicates stay together, time is split by time.
"""

"""Runs as TensorBoard's event files: a folder for each, with scalars by step, hyper-parameters, and texts.

The files are written in the form that TensorBoard reads, with its own messages, and neither TensorFlow nor a clock:
times are those of the run. Scalars are kept in single precision, as TensorBoard has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqbench.export.folders import check_out, is_there, replaced
from seqbench.export.packages import need
from seqbench.export.tracked import TrackedRun

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes runs below ``out``, which ``tensorboard --logdir`` opens."""

    def __init__(self, out: Path) -> None:
        need("tensorboard", "tensorboard")
        check_out(out)
        self.out = out
        self.opens = f"tensorboard --logdir {out}"

    def write(self, run: TrackedRun) -> bool:
        """Whether it had to be written."""
        folder = self.out.joinpath(*run.place)
        if is_there(folder, run):
            return False
        with replaced(folder, run, self.out) as new:
            name = f"events.out.tfevents.{int(run.started)}.seqbench"
            with (new / name).open("wb") as file:
                _write_events(run, file)
        return True

    def close(self) -> None:
        """Nothing is open."""


def _write_events(run: TrackedRun, file: Any) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    writer = RecordWriter(file)
    writer.write(Event(wall_time=run.started, file_version="brain.Event:2").SerializeToString())

    def put(time: float, step: int, summary: Summary) -> None:
        writer.write(Event(wall_time=time, step=step, summary=summary).SerializeToString())

    put(run.started, 0, _started(run))
    for point in run.curve:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.figures.items()]
        put(point.time, point.step, Summary(value=values))
    values = [Summary.Value(tag=name, simple_value=value) for name, value in run.figures.items()]
    put(run.ended, run.step, Summary(value=[*values, *_texts(run)]))
    put(run.ended, run.step, _ended(run))


def _started(run: TrackedRun) -> Summary:
    """The hyper-parameters, as the plug-in of that name reads them."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    info = SessionStartInfo(group_name=run.name, start_time_secs=run.started)
    for name, value in run.settings.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    return _of_hparams("SESSION_START_INFO_TAG", HParamsPluginData(session_start_info=info))


def _ended(run: TrackedRun) -> Summary:
    """How it ended."""
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = Status.Value("STATUS_SUCCESS" if run.ending == "finished" else "STATUS_FAILURE")
    info = SessionEndInfo(status=status, end_time_secs=run.ended)
    return _of_hparams("SESSION_END_INFO_TAG", HParamsPluginData(session_end_info=info))


def _of_hparams(tag: str, content: Any) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    about = metadata.create_summary_metadata(content)
    value = Summary.Value(tag=getattr(metadata, tag), metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def _texts(run: TrackedRun) -> Iterator[Any]:
    """How it ended and where it ran, as a table; and the record."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.metadata import create_summary_metadata

    rows = "".join(f"| {name} | {value.replace('|', '/')} |\n" for name, value in run.about.items())
    texts = {"about": f"| what | |\n|---|---|\n{rows}", "record": f"```json\n{run.record}```"}
    for name, text in texts.items():
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
        metadata = create_summary_metadata(display_name=name, description="")
        yield Summary.Value(tag=name, metadata=metadata, tensor=tensor)

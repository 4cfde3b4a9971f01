"""TensorBoard's event file, written in the calling thread.

tensorboardX's own writer hands events to a thread through a short queue: when that thread dies of a
full disk, the run waits for room in the queue forever.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2


class TensorBoard:
    """Appends to an event file in ``folder``; one event a step.

    Args:
        first_step: what an earlier process wrote of this step and of later ones is not shown.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        if first_step:
            started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._append(event_pb2.Event(step=first_step, session_log=started))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append the figures of one step, and flush."""
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in numbers.items()
        ]
        self._append(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _append(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)

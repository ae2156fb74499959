#!/usr/bin/env bash
# Library:  tensorboard 2.21.0 (EventAccumulator)
# Expected: a program that reads an event file by EventAccumulator finds every scalar under `scalars`, and all points.
# Really:   there are two forms of scalars in the files. Those of the newer form (tensors, made by tensorboard's own
#           scalar_pb) are not among the scalars but among the tensors, and of those 10 points are kept, picked at
#           random. size_guidance={"scalars": 0} does not help; {"tensors": 0} does.
# Seen on 28 November 2026 (1,000 points of each form written):
#   size_guidance=None
#     scalars ['older'], 1000 points
#     tensors ['newer'], 10 points, first at steps [225, 304, 352, 505]
#   size_guidance={'scalars': 0}
#     scalars ['older'], 1000 points
#     tensors ['newer'], 10 points, first at steps [225, 304, 352, 505]
#   size_guidance={'scalars': 0, 'tensors': 0}
#     scalars ['older'], 1000 points
#     tensors ['newer'], 1000 points, first at steps [0, 1, 2, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check tensorboard==2.21.0 numpy==2.4.6
cd "$work"

venv/bin/python -I -W ignore - 2> errors <<'EOF' || { tail -n 1 errors >&2; exit 1; }
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.scalar.summary import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("run")
for step in range(1000):
    older = Summary(value=[Summary.Value(tag="older", simple_value=1 / (step + 1))])
    for summary in (older, scalar_pb("newer", 1 / (step + 1))):
        writer.add_event(Event(step=step, wall_time=1.0 + step, summary=summary))
writer.close()

kept = []
for guidance in (None, {"scalars": 0}, {"scalars": 0, "tensors": 0}):
    events = EventAccumulator("run", size_guidance=guidance)
    events.Reload()
    tags = events.Tags()
    steps = [event.step for event in events.Tensors("newer")]
    kept.append(len(steps))
    print(f"size_guidance={guidance}")
    print(f"  scalars {tags['scalars']}, {len(events.Scalars('older'))} points")
    print(f"  tensors {tags['tensors']}, {len(steps)} points, first at steps {steps[:4]}")
    if tags["scalars"] != ["older"]:
        sys.exit("CHANGED: scalars of the newer form are now listed among the scalars.")
if kept != [10, 10, 1000]:
    sys.exit("CHANGED: other numbers of points are kept than 10, 10 and 1,000.")
EOF

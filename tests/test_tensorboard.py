"""What TensorBoard gets of a run, read back from its event files."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from deeplab_mnv2.training.log import Log
from deeplab_mnv2.training.loop import _of_classes

ROW = Path(__file__).resolve().parents[1] / "experiments" / "results" / "voc_small" / "eval.json"


def _events(workdir: Path) -> Iterator[event_pb2.Event]:
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            # A record is its length, a checksum, an event and another checksum.
            (length,) = struct.unpack("<Q", content[:8])
            yield event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def _drawn(workdir: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves of a run by name; a text is a curve of zeros."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in _events(workdir):
        for value in event.summary.value:
            curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def _hyperparameters(workdir: Path) -> dict[str, float | str | bool]:
    """Return the row of a run in the table of hyperparameters."""
    data = HParamsPluginData()
    for event in _events(workdir):
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                data.ParseFromString(value.metadata.plugin_data.content)
    found = data.session_start_info.hparams
    return {name: getattr(found[name], found[name].WhichOneof("kind")) for name in found}


def test_the_score_of_each_class_is_a_curve_and_no_line_of_the_file(tmp_path):
    result = json.loads(ROW.read_text())
    settings = {"train": {"seed": 3, "freeze": ["a", "b"]}, "name": "x"}
    with Log(tmp_path, first_step=0, total_steps=2, settings=settings, score="val_miou") as log:
        log.record(1, {"loss": 0.5, "warning": "text is no curve"})
        log.draw(2, _of_classes(result))
    curves = _drawn(tmp_path)
    assert curves["loss"] == [(1, 0.5)]
    found = {name: curves[f"val_iou/{name}"] for name in result["iou"]}
    assert found == {name: [(2, pytest.approx(iou))] for name, iou in result["iou"].items()}
    assert "config/text_summary" in curves
    table = {"_hparams_/experiment", "_hparams_/session_start_info"}
    assert set(curves) == {
        *("loss", "config/text_summary"),
        *table,
        *(f"val_iou/{name}" for name in found),
    }
    assert _hyperparameters(tmp_path) == {
        "train.seed": 3.0,
        "train.freeze": '["a", "b"]',
        "name": "x",
    }
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_resumed_run_tells_its_config_once(tmp_path):
    for first in (0, 1):
        with Log(tmp_path, first_step=first, total_steps=2, settings={}) as log:
            log.record(first + 1, {"loss": 1.0})
        # Event files are named by the second.
        time.sleep(1.1)
    curves = _drawn(tmp_path)
    assert len(curves["config/text_summary"]) == 1
    assert len(curves["_hparams_/session_start_info"]) == 1
    assert [step for step, _ in curves["loss"]] == [1, 2]


def test_classes_beyond_a_hundred_are_no_curves():
    assert _of_classes({"accuracy": dict.fromkeys(map(str, range(101)), 0.5)}) == {}
    # A class that is nowhere has no score.
    assert _of_classes({"accuracy": {"a": 0.5, "b": None}}) == {"val_accuracy/a": 0.5}

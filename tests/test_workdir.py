"""Which settings of a run may change when it is resumed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from deeplab_mnv2.config import EvaluationConfig
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.training.workdir import open_workdir, write_settings


@pytest.fixture
def run(config, voc, tmp_path):
    """A run on a folder, its workdir and the folder."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (voc / name).rename(data / name)
    config.data = dataclasses.replace(config.data, train=Folder(root=str(data), split="val"))
    assert open_workdir(tmp_path / "run", config) == []
    write_settings(tmp_path / "run", config)
    return config, tmp_path / "run", data


def test_the_data_may_move_but_not_change(run):
    config, workdir, data = run
    moved = data.with_name("moved")
    shutil.copytree(data, moved)
    config.data.train.root = str(moved)
    assert "data.train.root was" in open_workdir(workdir, config)[0]
    (moved / "ImageSets/Segmentation/val.txt").write_text("2007_0\n")
    with pytest.raises(UserError, match="holds a run with examples="):
        open_workdir(workdir, config)


def test_other_validation_data_are_refused_too(run):
    config, workdir, data = run
    config.data.val = Folder(root=str(data), split="val")
    write_settings(workdir, config)
    moved = data.with_name("moved")
    shutil.copytree(data, moved)
    config.data.val.root = str(moved)
    assert "data.val.root was" in open_workdir(workdir, config)[0]
    (moved / "ImageSets/Segmentation/val.txt").write_text("2007_0\n")
    with pytest.raises(UserError, match="holds a run with val_examples="):
        open_workdir(workdir, config)


def test_other_labels_of_the_same_names_are_refused(run, monkeypatch):
    config, workdir, data = run
    (data / "classes.txt").write_text("\n".join(VOC_CLASSES))
    (data / "SegmentationClass").rename(data / "Coarse")
    shutil.copytree(data / "Coarse", data / "Fine")
    config.data.train.labels = "Coarse"
    write_settings(workdir, config)
    for folder in (workdir, data):
        # Within the data set it is a path from the working folder as well.
        monkeypatch.chdir(folder)
        for labels in ("Fine", "./Fine", "Coarse/../Fine"):
            config.data.train.labels = labels
            with pytest.raises(UserError, match=r"data\.train\.labels='Coarse'"):
                open_workdir(workdir, config)


@dataclasses.dataclass
class Annotated:
    """A user's own data set: a file with annotations, and where the images are."""

    csv: str
    folders: tuple[str, ...] = ()
    bucket: str = ""
    threshold: float = 0.5
    split: str = "train"
    class_names: tuple[str, ...] = ("background", "cat")

    def open(self):
        return []

    def digest(self):
        return Path(self.csv).read_text()


@dataclasses.dataclass
class Both:
    """Two data sets as one."""

    parts: tuple[Annotated, ...]
    split: str = "train"
    class_names: tuple[str, ...] = ("background", "cat")

    def open(self):
        return []

    def digest(self):
        return "".join(part.digest() for part in self.parts)


@dataclasses.dataclass
class Wrapped:
    """A data set with a part that may be none."""

    data: Annotated
    inner: Annotated | None = None
    split: str = "train"
    class_names: tuple[str, ...] = ("background", "cat")

    def open(self):
        return []

    def digest(self):
        return self.data.digest()


@pytest.fixture
def own(config, tmp_path, monkeypatch):
    """Return a function that says what resuming with other settings of an own data set gives."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        Path(name, "images").mkdir(parents=True)
        Path(name, "list.csv").write_text("the same")
    Path("new", "other.csv").write_text("another")

    def resume(before, after):
        workdir = tmp_path / "run"
        config.data.train = before
        write_settings(workdir, config)
        config.data.train = after
        return [message.split(" was ")[0] for message in open_workdir(workdir, config)]

    return resume


def test_a_data_set_of_ones_own_may_move_whatever_it_calls_its_paths(own, tmp_path):
    old = Annotated("old/list.csv", ("old/images",))
    assert own(old, Annotated("new/list.csv", ("new/images",))) == [
        "data.train.csv",
        "data.train.folders",
    ]
    unknown = dataclasses.replace(old, threshold=float("nan"))
    assert own(unknown, dataclasses.replace(unknown)) == []
    absolute = Annotated(str(tmp_path / "new/list.csv"), ("old/images",))
    assert own(old, absolute) == ["data.train.csv"]
    assert own(absolute, old) == ["data.train.csv"]
    assert own(old, dataclasses.replace(old, bucket="gs://photos/all")) == ["data.train.bucket"]
    parts = Both((old, old)), Both((old, absolute))
    assert own(*parts) == ["data.train.parts.1.csv"]


def test_what_is_no_path_of_a_data_set_may_not_change(own):
    old = Annotated("old/list.csv", ("old/images",))
    for change in (
        {"threshold": 0.6},
        {"folders": ("missing",)},
        {"bucket": "missing"},
        {"split": "trainval"},
        {"csv": "new/other.csv"},
    ):
        with pytest.raises(UserError, match="holds a run with"):
            own(old, dataclasses.replace(old, **change))
    for change in ((old, Both((old,))), (Both((old,)), old)):
        with pytest.raises(UserError, match=r"holds a run with data\.train\.type="):
            own(*change)
    # Another policy is not one setting, but several; nor is none.
    policies = (None, Annotated("old/list.csv")), (Annotated("old/list.csv"), None)
    for before, after in policies:
        with pytest.raises(UserError, match=r"holds a run with data\.train\.inner="):
            own(Wrapped(old, before), Wrapped(old, after))
    for before, after in (((), (old,)), ((old,), ())):
        with pytest.raises(UserError, match=r"holds a run with data\.train\.parts="):
            own(Both(before), Both(after))
    with pytest.raises(UserError, match=r"parts\.length=1, but this one has 2"):
        own(Both((old,)), Both((old, dataclasses.replace(old, threshold=0.6))))


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("train", "init_weights", "/elsewhere/start.safetensors"),
        ("train", "init_parts", ("backbone",)),
        ("train", "log_every", 7),
        ("model", "remat", True),
        ("data", "damaged", "skip"),
    ],
)
def test_what_does_not_alter_the_training_may_change(run, section, name, value):
    config, workdir, _ = run
    setattr(getattr(config, section), name, value)
    (message,) = open_workdir(workdir, config)
    assert message.startswith(f"{section}.{name} was ")


@pytest.mark.parametrize("resumed", [True, False])
def test_a_resumed_run_stays_on_record_with_what_it_started_from(run, resumed):
    config, workdir, _ = run
    config.train.init_weights, config.train.total_steps = "other.safetensors", 9
    write_settings(workdir, config, resumed=resumed)
    stored = json.loads((workdir / "config.json").read_text())["train"]
    assert stored["total_steps"] == 9
    assert stored["init_weights"] == ("" if resumed else "other.safetensors")


def test_the_protocol_of_scores_may_change(run):
    config, workdir, _ = run
    config.evaluation = EvaluationConfig(pad_sizes=(65,), pictures=0)
    assert len(open_workdir(workdir, config)) > 1


def test_settings_from_another_version_are_passed_over(run):
    config, workdir, _ = run
    path = workdir / "config.json"
    stored = json.loads(path.read_text())
    del stored["data"]["damaged"]
    stored["train"]["gone"] = 3
    path.write_text(json.dumps(stored))
    assert open_workdir(workdir, config) == []

"""The command lines as typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [
        *("train", "evaluate", "predict", "export", "compare", "doctor", "costs", "sweep"),
        *("publish", "demo"),
    ],
)
def test_help_fits_a_screen(command, command_line):
    code, said = command_line(command, "--help")
    assert code == 0
    assert f"python -m deeplab_mnv2.{command}" in said
    assert len(said.splitlines()) <= 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.train.total_stps=3"], "did you mean 'train.total_steps'"),
        (["--config.train.lr=0.1"], "did you mean 'optimizer.learning_rate'"),
        (["--config.optimizer.wd=0.1"], "did you mean 'optimizer.weight_decay'"),
        (["--config.train.total_steps=many"], "total_steps"),
        (["--config.data.val.splt=val"], "There is no config field 'data.val.splt'."),
        (["--workdri=x"], "did you mean 'workdir'"),
        (["runs/quickstart"], "takes flags only, not 'runs/quickstart'"),
        (["--config", "nowhere.py"], "nowhere.py does not exist"),
        (["--config", "nowhere.py", "--config.train.total_steps=3"], "nowhere.py does not exist"),
        # Every page, and none of the scripts beside them.
        (["--config", "nowhere"], "pets, quickstart, ssd_coco"),
        (["--config", "{root}/experiments/voc_os16.py:missing"], "missing/"),
        (["--config.data.crop_size=96"], "data.crop_size=96"),
        (["--workdir", "/proc/run"], "/proc/run cannot be written"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, message, tmp_path, command_line):
    code, said = command_line("train", *(argument.format(root=ROOT) for argument in arguments))
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_command_in_a_process_of_its_own(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "deeplab_mnv2.evaluate"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Give --config FILE")


def page(folder: Path, text: str) -> str:
    """Write an experiment file and return the flag that names it."""
    path = folder / "page.py"
    path.write_text(text)
    return f"--config={path}"


QUICK = "import quickstart\n\n\ndef get_config():\n    config = quickstart.get_config()\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "line 1"),
        ("\n\nx = 1 / 0\n", "line 3: ZeroDivisionError: division by zero; correct it"),
        ("import nothing_like_it\n", "line 1: ModuleNotFoundError"),
        ("x = 1\n", "has no function get_config()"),
        ("def get_config():\n    return 3\n", "returns int"),
        ("def get_config():\n    raise KeyError\n", "line 2: KeyError; correct it"),
        (f"{QUICK}    config.train.learning_rate = 1\n", "There is no setting train.learning_rate"),
        (f"{QUICK}    config.data.crop_sizes = 65\n", "did you mean data.crop_size?"),
        (f"{QUICK}    config.train.freeze = 'backbone'\n", "train.freeze='backbone' is of another"),
        (f"{QUICK}    config.train.total_steps = 2.5\n", "it must be a whole number"),
        (f"{QUICK}    config.optimizer.rule = 'AdamW'\n", "Sgd(...) or AdamW(...)"),
        (f"{QUICK}    return config.train\n", "returns TrainConfig"),
    ],
)
def test_mistakes_in_a_page_name_its_line(tmp_path, text, message, command_line):
    code, said = command_line("train", page(tmp_path, text))
    assert (code, message in said, len(said.strip().splitlines())) == (2, True, 1), said


def test_a_page_imports_what_is_beside_it_and_the_packages_pages(tmp_path, command_line):
    (tmp_path / "numbers_of_mine.py").write_text("STEPS = 0\n")
    text = QUICK.replace("import quickstart", "import numbers_of_mine\nimport quickstart")
    text += "    config.train.total_steps = numbers_of_mine.STEPS\n    return config\n"
    code, said = command_line("train", page(tmp_path, text))
    assert (code, "train.total_steps=0 is out of range" in said) == (2, True), said


def test_a_users_package_named_experiments_hides_nothing(tmp_path, command_line, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    code, said = command_line("train", "--config=voc_os16:nowhere")
    assert (code, "nowhere" in said) == (2, True), said
    code, said = command_line("train", "--config=voc_os61")
    assert (code, "did you mean voc_os16?" in said) == (2, True), said


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.optimizer.rule=adam", "takes one of Sgd, AdamW, RmsProp, Lamb, Lion"),
        ("--config.optimizer.rule=adamw", ""),
        ("--config.optimizer.schedule=Cosine", ""),
        ("--config.loss=focal", ""),
        ("--config.loss=Sum", "Sum needs settings of its own"),
    ],
)
def test_objects_are_chosen_by_name(override, message, command_line):
    # The last override is refused, and shows that the others were taken.
    code, said = command_line("train", override, "--config.train.total_steps=0")
    assert (code, (message or "train.total_steps=0") in said) == (2, True), said


def test_help_ends_well(command_line):
    code, said = command_line("train", "--help")
    assert (code, "python -m deeplab_mnv2.train" in said) == (0, True)

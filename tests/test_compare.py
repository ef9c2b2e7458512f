"""Comparisons: what they find, what they refuse, and the command as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.report.comparison import compare, conclusion, load_runs, verdict
from deeplab_mnv2.report.comparison_page import write_comparison
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class, miou
from tests.support.evaluations import DATA, made_up
from tests.support.pages import (
    HISTORY,
    Page,
    in_chromium,
    require_accessible,
    require_self_contained,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs over the same images, the second far better, and one much like the first."""
    parent = tmp_path_factory.mktemp("runs")
    for name, wrong in (("bad", 0.7), ("good", 0.05), ("alike", 0.69)):
        made_up(wrong=wrong).write(parent / name)
    return parent


@pytest.fixture(scope="module")
def page(folders):
    runs = load_runs([folders / name for name in ("bad", "good", "alike")])
    found = compare([[run] for run in runs], samples=50)
    histories = {run.title: HISTORY for run in runs}
    write_comparison(runs, found, folders / "compare.html", histories)
    return folders / "compare.html"


def test_differences_are_those_of_the_scores(folders):
    runs = load_runs([folders / "bad", folders / "good"])
    (found,) = compare([[run] for run in runs], samples=200)["differences"]
    totals = [run.stored.confusions.sum(axis=0) for run in runs]
    assert found["difference"] == pytest.approx(float(miou(totals[1]) - miou(totals[0])))
    iou = iou_per_class(totals[1]) - iou_per_class(totals[0])
    for name, value in zip(runs[0].result["iou"], iou, strict=True):
        entry = found["iou"][name]
        assert (entry["difference"] is None) == bool(np.isnan(value))
        assert entry["difference"] is None or entry["difference"] == pytest.approx(value)
    low, high = found["ci95"]
    assert 0 < low < found["difference"] < high
    assert found["excludes_zero"]
    assert verdict(found) == "higher"
    (back,) = compare([[run] for run in runs[::-1]], samples=200)["differences"]
    assert back["ci95"] == pytest.approx([-high, -low])
    assert verdict(back) == "lower"


def test_an_interval_with_zero_shows_nothing(folders, tmp_path):
    made_up(wrong=0.7).write(tmp_path / "again")
    runs = load_runs([folders / "bad", tmp_path / "again"])
    found = compare([[run] for run in runs], samples=50)
    assert found["differences"][0]["ci95"] == [0, 0]
    assert found["differences"][0]["excludes_zero"] is False
    assert verdict(found["differences"][0]) == "includes zero"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three runs each of a bad recipe and of a good one."""
    parent = tmp_path_factory.mktemp("seeds")
    for name, wrong in (("bad", 0.95), ("good", 0.05)):
        for seed in range(3):
            made_up(wrong=wrong, seed=seed).write(parent / f"{name}{seed}")
    return parent


def test_single_runs_are_never_called_better(folders):
    runs = load_runs([folders / "bad", folders / "good"])
    (found,) = compare([[run] for run in runs], samples=50)["differences"]
    assert found["covers"] == "images"
    assert "says nothing about the recipes" in conclusion(found)
    words = {verdict(entry) for entry in found["iou"].values()}
    assert words <= {"higher", "lower", "includes zero", "too few images"}


def test_several_runs_show_which_recipe_is_better(seeds):
    runs = load_runs([seeds / f"{name}{seed}" for name in ("bad", "good") for seed in range(3)])
    (found,) = compare([runs[:3], runs[3:]], samples=200)["differences"]
    assert (found["run"], found["baseline"]) == ("good0 and 2 more", "bad0 and 2 more")
    assert (found["covers"], verdict(found)) == ("images and runs", "better")
    means = [np.mean([run.result["miou"] for run in arm]) for arm in (runs[:3], runs[3:])]
    assert [found["baseline_score"], found["score"]] == pytest.approx(means)
    assert found["difference"] == pytest.approx(means[1] - means[0])
    # The same recipe on both sides, as other seeds.
    (found,) = compare([runs[:2], [runs[2], runs[1]]], samples=200)["differences"]
    assert verdict(found) == "includes zero"


def test_runs_of_other_machines_are_warned_of(folders, tmp_path):
    evaluation = made_up(wrong=0.2)
    evaluation.result["protocol"]["machine"]["processor"] = "another"
    evaluation.result["protocol"]["versions"]["jax"] = "0.0"
    evaluation.write(tmp_path / "elsewhere")
    runs = load_runs([folders / "bad", folders / "good", tmp_path / "elsewhere"])
    (warning,) = compare([[run] for run in runs], samples=2)["warnings"]
    assert warning.startswith("bad and elsewhere differ in machine.processor, versions.jax: ")


def test_runs_of_one_name_are_called_by_their_folders(folders, tmp_path):
    made_up(wrong=0.2).write(tmp_path / "bad")
    runs = load_runs([folders / "bad", tmp_path / "bad"])
    assert [run.title for run in runs] == [str(folders / "bad"), str(tmp_path / "bad")]


def test_other_protocols_are_refused_by_name(folders, tmp_path):
    made_up(output_stride=8).write(tmp_path / "stride")
    with pytest.raises(UserError, match=r"differently, in output_stride \(16 and 8\)"):
        load_runs([folders / "bad", tmp_path / "stride"])


def test_broken_runs_are_refused(folders, tmp_path):
    bad = folders / "bad"
    with pytest.raises(UserError, match="named twice"):
        load_runs([bad, folders / "good" / ".." / "bad"])
    with pytest.raises(UserError, match=r"nowhere holds no eval\.json"):
        load_runs([bad, tmp_path / "nowhere"])
    run = tmp_path / "run"
    made_up(wrong=0.2).write(run)
    (run / "confusions.npz").unlink()
    with pytest.raises(UserError, match=r"run holds no confusions\.npz"):
        load_runs([bad, run])
    made_up(wrong=0.2).write(run)
    (run / "eval.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_runs([bad, run])
    made_up(wrong=0.2).write(run)
    (run / "confusions.npz").write_bytes((bad / "confusions.npz").read_bytes())
    with pytest.raises(UserError, match="are of two evaluations"):
        load_runs([bad, run])
    made_up(wrong=0.2).write(run)
    result = json.loads((run / "eval.json").read_text())
    del result["calibration"]
    (run / "eval.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="older version, without calibration"):
        load_runs([bad, run])
    evaluation = made_up(wrong=0.2)
    evaluation.counts.names.reverse()
    evaluation.pictures.clear()
    evaluation.write(run)
    with pytest.raises(UserError, match="same images in the same order"):
        load_runs([bad, run])
    relabelled = made_up(wrong=0.2)
    relabelled.counts.confusions[:2] = relabelled.counts.confusions[1::-1].copy()
    relabelled.pictures.clear()
    relabelled.write(run)
    with pytest.raises(UserError, match="different labels of the same images"):
        load_runs([bad, run])


def test_page_is_self_contained_and_accessible(page):
    text = page.read_text()
    require_self_contained(text)
    parsed = Page(text)
    require_accessible(parsed)
    assert len(parsed.find("tr", **{"data-class": "3"})) == 2
    # 3 curves, boundary and calibration, each with all runs.
    assert len(parsed.find("svg")) == 5
    assert len(parsed.find("ul", **{"class": "legend"})) == 5
    cards = parsed.find("li", **{"class": "card"})
    assert len(cards) >= 2
    # Image, label, three predictions, two changes.
    assert len(parsed.find("div", role="img")) == 7 * len(cards)
    assert "excludes zero" in text


def test_runs_without_pictures_are_still_compared(folders, tmp_path):
    made_up(wrong=0.2).write(tmp_path / "bare")
    (tmp_path / "bare" / "pictures.zip").unlink()
    runs = load_runs([folders / "bad", tmp_path / "bare"])
    found = compare([[run] for run in runs], samples=20)
    write_comparison(runs, found, tmp_path / "compare.html", {run.title: [] for run in runs})
    text = (tmp_path / "compare.html").read_text()
    assert "no pictures of the same images" in text
    assert not Page(text).find("li", **{"class": "card"})


def test_pictures_are_ordered_by_gain_in_a_browser(page):
    found = in_chromium(
        page,
        """
        const gains = (key) => [...document.querySelectorAll(".card")]
          .map((card) => Number(card.dataset[key]));
        const results = { first: gains("gain1") };
        const sort = document.querySelector("#sort");
        for (const value of ["-gain1", "gain1", "-gain2", "gain2"]) {
          sort.value = value;
          sort.dispatchEvent(new Event("change"));
          results[value] = gains(value.replace("-", ""));
        }
        document.querySelector("#classes a[data-filter='0']").click();
        results.shown = document.querySelector("#shown").textContent;
        return results;
        """,
    )
    assert found["errors"] == []
    assert found["first"] == found["-gain1"]
    for key in ("gain1", "gain2"):
        assert found[key] == sorted(found[key])
        assert found[f"-{key}"] == sorted(found[key], reverse=True)
    assert "with background" in found["shown"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deeplab_mnv2.compare", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_command_prints_and_leaves_the_differences(folders, tmp_path):
    done = command(folders / "bad", folders / "good", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "good against bad: +" in done.stdout
    assert "excludes zero" in done.stdout
    assert DATA.class_names[1] in done.stdout
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [run["run"] for run in found["runs"]] == ["bad", "good"]
    assert found["differences"][0]["excludes_zero"] is True
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["compare.html", "compare.json", "figures"]


def test_command_compares_several_runs_with_several(seeds, tmp_path):
    bad, good = ([seeds / f"{name}{seed}" for seed in range(3)] for name in ("bad", "good"))
    done = command(*good, "--against", *bad, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "good0 and 2 more against bad0 and 2 more: +" in done.stdout
    assert "the interval over images and runs excludes zero: better." in done.stdout
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [run["run"] for run in found["runs"]] == [path.name for path in (*bad, *good)]
    assert "images and runs excludes zero: better" in (tmp_path / "out/compare.html").read_text()


@pytest.mark.parametrize("before", [(), ("--output", "out")])
def test_command_wants_runs_after_against(folders, before):
    done = command(folders / "bad", folders / "good", *before, "--against")
    assert done.returncode == 2
    assert "against" in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_wants_two_runs(folders):
    done = command(folders / "bad")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: Name two runs or more")
    assert done.stderr.count("\n") == 1

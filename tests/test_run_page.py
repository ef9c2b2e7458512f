"""The page: whole, self-contained, honest about what is missing, and working in a browser."""

import html.parser
from xml.etree import ElementTree

import numpy as np
import pytest

from deeplab_mnv2.report.page import height_for
from deeplab_mnv2.report.run_page import write_report
from tests.support.evaluations import made_up, photograph
from tests.support.pages import (
    HISTORY,
    Page,
    in_chromium,
    require_accessible,
    require_self_contained,
)


@pytest.fixture(scope="module")
def evaluation():
    return made_up()


@pytest.fixture(scope="module")
def path(evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(evaluation, path, title="a <run>", history=HISTORY)
    return path


def test_self_contained_and_accessible(path):
    text = path.read_text()
    require_self_contained(text)
    page = Page(text)
    require_accessible(page)
    assert list(path.parent.glob("*.tmp")) == []
    assert "a &lt;run&gt;" in text


def test_tells_each_warning_of_the_run_once(evaluation, tmp_path):
    said = [
        {"step": step, "warning": text}
        for step, text in ((3, "a.png <damaged>"), (4, "b.png damaged"), (9, "a.png <damaged>"))
    ]
    write_report(evaluation, tmp_path / "report.html", title="run", history=HISTORY + said)
    text = (tmp_path / "report.html").read_text()
    Page(text)
    assert "2 warnings while training" in text
    assert text.count("a.png &lt;damaged&gt;") == 1
    assert "step 3: a.png" in text


def test_shows_what_was_measured(path, evaluation):
    text, result = html.unescape(path.read_text()), evaluation.result
    page = Page(path.read_text())
    assert f"{100 * result['miou']:.2f}" in text
    assert f"{100 * result['ci95'][0]:.2f} to {100 * result['ci95'][1]:.2f}" in text
    for value in result["protocol"].values():
        assert not isinstance(value, str) or value in text
    # 3 curves, boundary and calibration.
    assert len(page.find("svg")) == 5
    # Each class in its bar, in the matrix and in the filter.
    assert len(page.find("tr", **{"data-class": "20"})) == 2
    assert text.count('<option value="20">') == 1
    cells = [c for c in page.find("td") if not c or set(c) <= {"style", "class"}]
    assert len(cells) >= 21 * 21
    assert len(page.find("li", **{"class": "card"})) == len(evaluation.pictures) == 6
    assert len(page.find("div", role="img")) == 4 * 6


def test_little_to_show_is_no_error(tmp_path):
    evaluation = made_up(pictures=0)
    result = evaluation.result
    for key in ("miou", "ci95", "pixel_accuracy"):
        result[key] = None
    absent = list(result["iou"])[1]
    result["iou"][absent] = result["iou_ci95"][absent] = None
    result["boundary_miou"] = dict.fromkeys(result["boundary_miou"])
    result["calibration"]["pixels"] = [0] * 15
    result["calibration"]["ece"] = None
    write_report(evaluation, tmp_path / "report.html", title="nothing", history=None)
    page = Page((tmp_path / "report.html").read_text())
    require_accessible(page)
    assert not page.find("svg")
    assert not page.find("li", **{"class": "card"})
    text = (tmp_path / "report.html").read_text()
    assert "absent" in text
    assert "nan" not in text.lower().replace("finance", "")
    assert "set evaluation.pictures above 0" in text


def test_names_cannot_break_out(tmp_path):
    evaluation = made_up()
    bad = '"><script>alert(1)</script>'
    result = evaluation.result
    first = next(iter(result["iou"]))
    for key in ("iou", "iou_ci95", "precision", "recall", "dice"):
        result[key] = {bad if k == first else k: v for k, v in result[key].items()}
    evaluation.pictures[0].name = bad
    write_report(evaluation, tmp_path / "report.html", title=bad)
    text = (tmp_path / "report.html").read_text()
    assert bad not in text
    assert len(Page(text).find("script")) == 2


def test_a_page_of_443_images_stays_below_5_mb(tmp_path):
    evaluation = made_up(pictures=4)
    sizes = {}
    for copies in (1, 3):
        pictures = []
        for index in range(4 * copies):
            picture = evaluation.pictures[index % 4]
            label, prediction = (
                np.kron(ids, np.ones((8, 8), np.uint8))[:375, :500]
                for ids in (picture.label, picture.prediction)
            )
            photo = photograph(*label.shape, seed=index)
            kind = type(picture)
            pictures.append(kind(str(index), photo, label, prediction, picture.confusion))
        evaluation.pictures[:] = pictures
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "deeplab_mnv2.report.segmentation_page.height_for", lambda _: height_for(443)
            )
            write_report(evaluation, tmp_path / "report.html", title="many")
        sizes[copies] = (tmp_path / "report.html").stat().st_size
    each = (sizes[3] - sizes[1]) / 8
    assert sizes[1] + 439 * each < 5_000_000


def test_filter_and_order_work_in_a_browser(path, evaluation):
    names = list(evaluation.result["iou"])
    pictures = sorted(evaluation.pictures, key=lambda picture: picture.miou)
    found = in_chromium(
        path,
        """
        const shown = () => [...document.querySelectorAll(".card")].filter((c) => !c.hidden)
          .map((card) => card.dataset.name);
        const change = (id, value) => {
          const select = document.querySelector(id);
          select.value = value;
          select.dispatchEvent(new Event("change"));
          return shown();
        };
        const results = { all: shown(), best: change("#sort", "-miou"),
          name: change("#sort", "name"), worst: change("#sort", "miou"), byClass: {} };
        for (const link of document.querySelectorAll("#classes a[data-filter]")) {
          link.click();
          results.byClass[link.dataset.filter] = shown();
        }
        results.marked = document.querySelectorAll("#confusion tr.chosen").length;
        document.querySelector("#reset").click();
        results.reset = shown();
        results.group = change("#group", "best");
        document.querySelector("#reset").click();
        results.byPair = {};
        document.querySelectorAll("#confusion td").forEach((cell) => {
          cell.click();
          const link = document.querySelector("#cell a");
          if (!link) return;
          link.click();
          results.byPair[link.dataset.filter] = shown();
          results.text = document.querySelector("#shown").textContent;
        });
        document.querySelector("#confusion td").click();
        for (const key of ["ArrowRight", "ArrowDown", "ArrowUp", "ArrowDown", "ArrowUp"])
          document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key, bubbles: true }));
        results.focus = document.activeElement.cellIndex;
        results.stops = document.querySelectorAll("#confusion td[tabindex='0']").length;
        document.querySelectorAll("#classes th button")[1].click();
        results.classes = [...document.querySelectorAll("#classes tbody tr")]
          .map((row) => row.dataset.class);
        results.wide = document.documentElement.scrollWidth > innerWidth;
        return results;
        """,
    )
    order = [picture.name for picture in pictures]
    miou = {picture.name: round(picture.miou, 5) for picture in pictures}
    assert found["errors"] == []
    assert found["all"] == order
    # Images of the same mIoU keep the order they had.
    assert [miou[name] for name in found["worst"]] == sorted(miou.values())
    assert [miou[name] for name in found["best"]] == sorted(miou.values(), reverse=True)
    assert found["name"] == sorted(order)
    assert sorted(found["reset"]) == sorted(order)
    assert set(found["group"]) == {p.name for p in pictures if "best" in p.groups}
    for class_id in range(len(names)):
        occurs = [p.confusion[class_id].any() or p.confusion[:, class_id].any() for p in pictures]
        having = {p.name for p, here in zip(pictures, occurs, strict=True) if here}
        assert set(found["byClass"][str(class_id)]) == having
    assert found["marked"] == 1
    for pair, shown in found["byPair"].items():
        label, prediction = map(int, pair.split("-"))
        assert set(shown) == {p.name for p in pictures if p.confusion[label, prediction]}
    assert found["byPair"]
    assert "pictures with" in found["text"]
    assert (found["focus"], found["stops"]) == (2, 1)
    iou = [evaluation.result["iou"][names[int(c)]] for c in found["classes"]]
    assert iou == sorted(iou, key=lambda value: -1 if value is None else value)
    assert not found["wide"]


def test_charts_are_figures_of_their_own(path):
    """XML that names its namespace, without what only browsers know."""
    figures = sorted((path.parent / "figures").iterdir())
    assert {"training_loss.svg", "miou_near_boundaries.svg", "calibration.svg"} <= {
        figure.name for figure in figures
    }
    for figure in figures:
        text = figure.read_text()
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert list(root.iter("{http://www.w3.org/2000/svg}path"))
        assert "var(" not in text

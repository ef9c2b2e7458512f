"""What the READMEs say of files, links, flags and lengths is so."""

import re
from pathlib import Path

import pytest

from deeplab_mnv2.config import Config, DataConfig, to_dict
from deeplab_mnv2.data.shapes import Shapes

ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ("", ".github", "deeplab_mnv2", "experiments", "notebooks")
READMES = sorted(
    path
    for folder in _FOLDERS
    for path in ROOT.joinpath(folder).glob("**/*.md" if folder else "*")
    if path.suffix == ".md"
)


def _ids(path):
    return str(path.relative_to(ROOT))


def _anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", READMES, ids=_ids)
def test_links_lead_to_files_and_titles(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text()), link


@pytest.mark.parametrize("path", READMES, ids=_ids)
def test_files_that_are_named_exist(path):
    names = re.findall(r"(?:experiments|tests|notebooks)/[\w/]+\.(?:py|png)", path.read_text())
    missing = [name for name in names if not (ROOT / name).exists()]
    assert [name for name in missing if name != "experiments/NAME.py"] == []


@pytest.mark.parametrize("path", READMES, ids=_ids)
def test_settings_that_are_named_exist(path):
    config = to_dict(Config(data=DataConfig(train=Shapes("train"), val=Shapes("val"))))
    pattern = r"(?:--config\.|`)((?:train|data|model|evaluation|optimizer)\.\w+)(?:=|`)"
    for name in re.findall(pattern, path.read_text()):
        section, field = name.split(".")
        if field in ("ipynb", "py", "safetensors", "yaml"):
            continue
        assert field in config[section], name


def test_the_core_is_as_long_as_the_readme_says():
    text = (ROOT / "README.md").read_text()
    core, package = (
        int(number.replace(",", ""))
        for number in re.search(r"([\d,]+) of the package's ([\d,]+) lines", text).groups()
    )
    listed = text.split("in this order:")[1].split("```")[1].split()
    files = [path for name in listed for path in (ROOT / "deeplab_mnv2").glob(name)]
    assert len(files) >= len(listed)
    assert _lines(files) == pytest.approx(core, rel=0.1)
    assert _lines((ROOT / "deeplab_mnv2").rglob("*.py")) == pytest.approx(package, rel=0.1)


def _lines(paths):
    return sum(len(path.read_text().splitlines()) for path in paths)

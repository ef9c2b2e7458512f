"""What a line of a list says is read, or refused: never another file."""

import os
import shutil
from pathlib import Path

import pytest

from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.lists import read_lines, readings
from deeplab_mnv2.errors import UserError

LIST = "ImageSets/Segmentation/val.txt"


def write(root: Path, *paths: str, like: str = "2007_0") -> None:
    """Copy an image or a label of the data set to other places."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        sample = f"SegmentationClass/{like}.png"
        if Path(path).suffix.lower() != ".png":
            sample = f"JPEGImages/{like}.jpg"
        shutil.copy(root / sample, root / path)


def pairs(root: Path, line: str | bytes, **settings) -> list[tuple[str, str]]:
    """Return the files that a list of one line gives, below the root."""
    (root / LIST).write_bytes(line if isinstance(line, bytes) else line.encode())
    source = Folder(root=str(root), split="val", **settings).open()
    return [(str(i.relative_to(root)), str(j.relative_to(root))) for i, j in source.pairs]


OTHER = ("JPEGImages/im 0,a.jpg", "Other/im 0,a.png")


@pytest.mark.parametrize(
    "line",
    [
        "{} {}",
        "{}\t{}",
        "{},{}",
        "{}, {}",
        "{}|{}",
        "{} | {}",
        "{};{}",
        '"{}","{}"',
        '"{}" "{}"',
        "  {}   {}  ",
        "/{} /{}",
        "./{} ./{}",
        "{root}/{} {root}/{}",
        "{root}/{},{root}/{}\r",
    ],
)
def test_a_pair_is_the_files_that_it_names(voc, line):
    # The label that the image's name would give is there as well, and is not the one.
    write(voc, *OTHER, "SegmentationClass/im 0,a.png")
    assert pairs(voc, line.format(*OTHER, root=voc)) == [OTHER]


def test_quotes_within_quotes(voc):
    write(voc, 'JPEGImages/a "b".jpg', "Other/x.png")
    assert pairs(voc, '"JPEGImages/a ""b"".jpg",Other/x.png') == [
        ('JPEGImages/a "b".jpg', "Other/x.png")
    ]


def test_paths_of_windows(voc):
    line = "\ufeffJPEGImages\\2007_0.jpg\tSegmentationClass\\2007_0.png\r\n"
    assert pairs(voc, line) == [("JPEGImages/2007_0.jpg", "SegmentationClass/2007_0.png")]


def test_paths_below_the_folders_of_images_and_labels(voc):
    write(voc, "SegmentationClass/2007_0_mask.png")
    assert pairs(voc, "2007_0.jpg,2007_0_mask.png") == [
        ("JPEGImages/2007_0.jpg", "SegmentationClass/2007_0_mask.png")
    ]


@pytest.mark.parametrize(
    "line",
    [
        "town/x",
        "town/x.jpg",
        "JPEGImages/town/x.jpg",
        "JPEGImages/town/x",
        "/JPEGImages/town/x.jpg",
        "{root}/JPEGImages/town/x.jpg",
        "{root}/JPEGImages/town/x",
        "town\\x",
    ],
)
def test_folders_in_names_are_kept(voc, line):
    write(voc, "JPEGImages/town/x.jpg", "SegmentationClass/town/x.png")
    # What the last part alone would find.
    write(voc, "JPEGImages/x.jpg", "SegmentationClass/x.png")
    town = ("JPEGImages/town/x.jpg", "SegmentationClass/town/x.png")
    assert pairs(voc, line.format(root=voc)) == [town]
    (voc / "JPEGImages/town/x.jpg").unlink()
    with pytest.raises(UserError, match=r"val\.txt, line 1, lists"):
        pairs(voc, line.format(root=voc))


def test_an_absolute_path_may_lead_out_of_the_root(voc, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    shutil.copytree(voc, disk, dirs_exist_ok=True)
    (voc / LIST).write_text(f"{disk}/JPEGImages/2007_1.jpg SegmentationClass/2007_1.png\n")
    source = Folder(root=str(voc), split="val").open()
    assert source.pairs == ((disk / "JPEGImages/2007_1.jpg", voc / "SegmentationClass/2007_1.png"),)
    assert source.names == (f"{disk}/JPEGImages/2007_1"[1:],)
    assert source[0]["image"].shape == (13, 10, 3)


def test_however_a_file_is_listed_its_name_and_digest_are_the_same(voc, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(voc)
    digests = set()
    for line in (
        "2007_0",
        "JPEGImages/2007_0.jpg SegmentationClass/2007_0.png",
        f"{voc}/JPEGImages/2007_0.jpg,{voc}/SegmentationClass/2007_0.png",
    ):
        (voc / LIST).write_text(line + "\n")
        for root in (voc, link):
            folder = Folder(root=str(root), split="val")
            assert folder.open().names == ("2007_0",)
            digests.add(folder.digest())
    assert len(digests) == 1


def test_suffixes_in_any_case(voc):
    for old, new in (("2007_0", "JPEGImages/A.JPG"), ("2007_1", "JPEGImages/b.jpg")):
        (voc / f"JPEGImages/{old}.jpg").rename(voc / new)
    (voc / "SegmentationClass/2007_0.png").rename(voc / "SegmentationClass/A.PNG")
    (voc / "SegmentationClass/2007_1.png").rename(voc / "SegmentationClass/b.Png")
    found = [
        ("JPEGImages/A.JPG", "SegmentationClass/A.PNG"),
        ("JPEGImages/b.jpg", "SegmentationClass/b.Png"),
    ]
    assert pairs(voc, "A\nb\n") == found
    assert pairs(voc, "A.jpg\nb.JPG\n") == found
    assert pairs(voc, "JPEGImages/A.jpg SegmentationClass/A.png\nb\n") == found
    assert pairs(voc, "", lists="") == found
    # The stem has the case it has.
    with pytest.raises(UserError, match="line 1, lists 'a'"):
        pairs(voc, "a\n")


def test_blank_lines_and_comments_are_passed_over(voc):
    line = "# the first\n\n2007_1\r\n \t\r\n#2007_0\n# JPEGImages/2007_0.jpg x.png"
    one = [("JPEGImages/2007_1.jpg", "SegmentationClass/2007_1.png")]
    assert pairs(voc, line) == one
    # A file of such a name is no comment.
    write(voc, "JPEGImages/#2007_0.jpg", "SegmentationClass/#2007_0.png")
    assert pairs(voc, line)[1:] == [("JPEGImages/#2007_0.jpg", "SegmentationClass/#2007_0.png")]


def test_names_of_any_bytes(voc):
    name = os.fsdecode(b"caf\xe9")
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        (voc / folder / f"2007_0{suffix}").rename(voc / folder / f"{name}{suffix}")
    assert pairs(voc, b"caf\xe9\n") == [(f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png")]
    folder = Folder(root=str(voc), split="val")
    example = folder.open()[0]
    # In reports, which are UTF-8, the byte is written as Python writes it.
    assert example["name"] == "caf\\udce9"
    before = folder.digest()
    (voc / LIST).write_bytes(b"caf\xe9\n2007_1\n")
    assert folder.digest() != before
    (voc / "SegmentationClass" / f"{name}.png").unlink()
    with pytest.raises(UserError, match=r"caf\\udce9\.png does not exist") as caught:
        folder.open()
    assert str(caught.value).isprintable()


def test_names_keep_characters_that_split_lines_elsewhere(voc):
    # A form feed, the next line of EBCDIC and Unicode's own separator of lines.
    for mark in ("\x0c", "\x85", "\u2028", "\xa0"):
        write(voc, f"JPEGImages/a{mark}b.jpg", f"SegmentationClass/a{mark}b.png")
        assert pairs(voc, f"a{mark}b\n") == [
            (f"JPEGImages/a{mark}b.jpg", f"SegmentationClass/a{mark}b.png")
        ]


def test_links_count_alike_for_names_and_pairs(voc, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    shutil.move(voc / "SegmentationClass", disk / "SegmentationClass")
    (voc / "SegmentationClass").symlink_to(disk / "SegmentationClass")
    pair = ("JPEGImages/2007_0.jpg", "SegmentationClass/2007_0.png")
    for line in ("2007_0", " ".join(pair), f"/{pair[0]} /{pair[1]}"):
        assert pairs(voc, line) == [pair]


@pytest.mark.parametrize(
    ("line", "files", "message"),
    [
        ("a b", ("JPEGImages/a b.jpg", "SegmentationClass/a b.png", "a", "b"), "can mean"),
        ("a.jpg", ("JPEGImages/a.jpg", "JPEGImages/a.jpg.jpg"), "can mean"),
        (
            "JPEGImages/a.jpg",
            ("JPEGImages/a.jpg", "JPEGImages/JPEGImages/a.jpg"),
            "can mean",
        ),
        ("a", ("JPEGImages/a.jpg", "JPEGImages/a.bmp"), "share a name"),
        ("a.png", ("JPEGImages/a.jpg", "SegmentationClass/a.png"), "no such image"),
        ("elsewhere/a.jpg", ("elsewhere/a.jpg",), "no label by its name"),
        ("2007_0.jpg,", (), "no such image"),
        ("2007_0 1", (), "no such image"),
        ("2007_0,2007_1", (), "no such image"),
        ("image,label", (), "no such image"),
        ("JPEGImages/2007_0.jpg Other/x.png", (), r"Other/x\.png does not exist"),
        ("Other/x.jpg SegmentationClass/2007_0.png", (), r"Other/x\.jpg does not exist"),
        ("../a.jpg SegmentationClass/2007_0.png", (), "is outside"),
        ("JPEGImages/2007_0.jpg ../a.png", (), "is outside"),
        ("JPEGImages/2007_0.jpg JPEGImages/../../a.png", (), "is outside"),
        ("../2007_0", (), "is outside"),
        ("x" * 100_000, (), "100,000 characters"),
        (" ".join(["x"] * 4_000), (), "no such image"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(voc, line, files, message):
    (voc.parent / "a.png").write_bytes((voc / "SegmentationClass/2007_0.png").read_bytes())
    for path in files:
        write(voc, path)
        if path.startswith("JPEGImages/"):
            write(voc, "SegmentationClass" + path[10:].rsplit(".", 1)[0] + ".png")
    with pytest.raises(UserError, match=message) as caught:
        pairs(voc, f"2007_1\n\n{line}\n")
    assert f"{voc / LIST}, line 3" in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_list_in_utf_16_is_refused(voc):
    with pytest.raises(UserError, match=r"val\.txt cannot be read as text.*UTF-8"):
        pairs(voc, "2007_0\n".encode("utf-16"))


def test_lines_have_the_numbers_of_an_editor(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa\r\n\r\n\tb c \rd\n".encode())
    assert read_lines(path) == [(1, "a"), (3, "b c"), (4, "d")]


def test_every_separator_may_be_part_of_a_name():
    assert set(readings("a, b")) == {("a, b",), ("a", "b"), ("a,", "b")}
    assert set(readings('"a"')) == {('"a"',), ("a",)}
    assert set(readings("a,")) == {("a,",)}

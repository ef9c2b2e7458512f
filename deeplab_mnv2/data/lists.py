"""Lists of a split: what a line may say; `data.layout` knows which files that means.

A line is an image's name, or the paths of an image and its label with blanks, a tab, a comma, a
semicolon or a bar between them. Several numbers behind a name are passed over, as in the lists of
Oxford's pets; one alone is not, since in VOC's lists of a class it says whether the image belongs.
Any of these may also be part of a name. So a line is read in every possible way, and the way counts
whose files exist; where there are two, the line is refused.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeplab_mnv2.data.classes import BACKGROUND
from deeplab_mnv2.errors import UserError

_SEPARATORS = " \t,;|"


def read_lines(path: Path, errors: str = "strict") -> list[tuple[int, str]]:
    """Return the lines of a text file that hold something, with their numbers from 1.

    Bytes that are no UTF-8 are refused or, where `errors` is "surrogateescape", kept as in the
    names of files.

    Raises:
        UserError: it cannot be read as text.
    """
    try:
        lines = split_lines(path.read_bytes(), errors)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as text ({error}); save it in UTF-8.") from error
    stripped = [(number, line.strip(" \t")) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in stripped if line]


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the classes that a text file names, one a line.

    Raises:
        UserError: it is no text, or names fewer than two classes or one of them twice.
    """
    names = tuple(line for _, line in read_lines(path))
    if len(names) < 2:
        raise UserError(f"{path} names {len(names)} classes; write one a line, two or more.")
    return distinct_names(path, names)


def read_object_names(path: Path) -> tuple[str, ...]:
    """Return the classes of objects that a text file names, one a line; one of them is enough.

    Raises:
        UserError: it is no text, or names none but the background or one of them twice.
    """
    names = tuple(line for _, line in read_lines(path))
    if not {*names} - {BACKGROUND}:
        raise UserError(f"{path} names no classes; write one a line.")
    return distinct_names(path, names)


def distinct_names(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes that a file lists.

    Raises:
        UserError: one of them comes twice.
    """
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path} names {repeated[0]!r} twice; give each class its own name.")
    return tuple(names)


def split_lines(content: bytes, errors: str) -> list[str]:
    """Return the lines of a text as any operating system and editor writes it.

    Raises:
        ValueError: it is no text in UTF-8.
    """
    # Some editors of Windows begin a file with a mark.
    text = content.decode("utf-8-sig", errors)
    if "\0" in text:
        raise ValueError("it holds a NUL, as UTF-16 does")
    # Not `splitlines`, which also splits at characters that names may hold.
    return re.split("\r\n|\n|\r", text)


def readings(line: str) -> Iterator[tuple[str] | tuple[str, str]]:
    """Yield every way to read a line: as one name, or as an image and a label.

    Quotes are those of CSV files, and backslashes those of Windows.
    """
    yield from ((name,) for name in _forms(line))
    words = line.split()
    numbers = sum(1 for _ in itertools.takewhile(_is_number, reversed(words)))
    if 1 < numbers < len(words):
        yield from ((name,) for name in _forms(line.rsplit(None, numbers)[0]))
    for position, character in enumerate(line):
        if character in _SEPARATORS:
            image, label = line[:position].strip(" \t"), line[position + 1 :].strip(" \t")
            if image and label:
                yield from ((i, j) for i in _forms(image) for j in _forms(label))


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal()


def _forms(part: str) -> set[str]:
    """Return what a part of a line may mean: itself, what is in its quotes, with slashes."""
    forms = {part}
    if len(part) > 2 and part[0] == part[-1] == '"':
        forms.add(part[1:-1].replace('""', '"'))
    return forms | {form.replace("\\", "/") for form in forms}

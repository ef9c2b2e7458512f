"""A whole data set examined, summed up, and checked against its other splits."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL, DataSet, Source
from deeplab_mnv2.data.bands import read_bands
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.label_files import LabelValues, read_values, to_colour
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.alignment import misplaced
from deeplab_mnv2.inspection.example import (
    Examination,
    Finding,
    class_ids,
    examine_example,
    examine_failure,
    examine_files,
    example_arrays,
)

Entry = tuple[Path, Path] | int | UserError

# Share of unlabelled pixels from which a split is more void than label; VOC has 5 %.
_MOSTLY = 0.5
# A colour with a smaller share of all label pixels is a blend at an edge.
_RARE_COLOUR = 1e-3


@dataclasses.dataclass
class Survey:
    """A split: its examinations in order, with what each was made from, and what they sum up to.

    `pixels` and `images` (256,) count the pixels of each label id and the images that have it.
    """

    data_set: DataSet
    # None where files are examined.
    source: Source | None
    entries: list[Entry]
    examinations: list[Examination]
    findings: list[Finding]
    pixels: np.ndarray
    images: np.ndarray
    void: float
    class_weights: list[float]

    def pictures(self, index: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return image and label of an example, each None where it cannot be read."""
        entry = self.entries[index]
        if isinstance(entry, tuple):
            meaning = _meaning(self.data_set)
            read = functools.partial(read_values, in_colour=meaning.in_colour)
            label = _readable(read, entry[1])
            label = None if label is None else class_ids(label, *meaning.to_classes(label), meaning)
            image = _readable(functools.partial(read_bands, bands=_bands(self.data_set)), entry[0])
            return image, label
        example = _readable(self.source.__getitem__, entry) if self.source else None
        return example_arrays(example) if example else (None, None)


def list_entries(data_set: DataSet) -> list[Entry]:
    """Return what the examples of a data set are read from; damage does not show yet.

    That is pairs of files where the examples are just these, indices for any other data set.

    Raises:
        UserError: there is no such split.
    """
    if _is_files(data_set):
        return list(data_set.entries())
    return list(range(len(data_set.open())))


def survey(
    data_set: DataSet,
    entries: list[Entry],
    *,
    threads: int,
    seen: Callable[[], None] = lambda: None,
) -> Survey:
    """Examine entries of a data set, on threads; `seen` is called after each."""
    num_classes, meaning = len(data_set.class_names), _meaning(data_set)
    source = None if _is_files(data_set) else data_set.open()

    def examine(entry: Entry) -> Examination:
        if isinstance(entry, UserError):
            return examine_failure(entry, data_set.split, "split entry")
        if isinstance(entry, tuple):
            return examine_files(*entry, meaning, _bands(data_set))
        assert source is not None  # only files do without
        try:
            return examine_example(
                source[entry], num_classes, f"Example {entry} of {data_set.split}"
            )
        except UserError as error:
            return examine_failure(error, data_set.split, "unreadable")

    examinations = []
    with ThreadPoolExecutor(threads) as pool:
        for examination in pool.map(examine, entries):
            examinations.append(examination)
            seen()
    return _sum_up(data_set, source, entries, examinations)


def find_twins(surveys: Sequence[Survey]) -> None:
    """Add a finding to each example whose image, as decoded pixels, has occurred before."""
    first: dict[str, tuple[Survey, str]] = {}
    for split in surveys:
        for examination in split.examinations:
            digest, name = examination.image_digest, examination.name
            if digest is None:
                continue
            if digest not in first:
                first[digest] = split, name
                continue
            other, twin = first[digest]
            if other is not split:
                there = other.data_set.split
                message = (
                    f"{name} in {split.data_set.split} is the same picture as {twin} in {there}, "
                    "so one cannot score what the other taught; take it out of one of them."
                )
                examination.findings.append(Finding("shared image", name, message))
            elif twin == name:
                message = f"{name} is twice in {split.data_set.split}; take one of them out."
                examination.findings.append(Finding("listed twice", name, message))
            else:
                message = f"{name} in {split.data_set.split} is the same picture as {twin}."
                examination.findings.append(Finding("duplicate image", name, message))


def find_unlisted(surveys: Sequence[Survey]) -> list[Finding]:
    """Return a note on the files of folders that no entry of these splits names."""
    files: set[Path] = set()
    used: set[Path] = set()
    for split in surveys:
        if _is_files(split.data_set):
            files |= split.data_set.files()
            used |= {path for entry in split.entries if isinstance(entry, tuple) for path in entry}
    unlisted = sorted(files - used)
    if not unlisted:
        return []
    splits = " and ".join(split.data_set.split for split in surveys)
    message = f"{len(unlisted)} files are in no entry of {splits}, such as {unlisted[0]}."
    return [Finding("unlisted files", splits, message)]


def median_frequency_weights(counts: np.ndarray) -> list[float]:
    """Return a loss weight for each class from label counts (N, C) of N images.

    Median-frequency balancing (Eigen & Fergus 2015, arXiv:1411.4734): the median of the classes'
    frequencies over the class's own, which is its share of all labelled pixels of the images
    that have it. A class that is nowhere gets 1.
    """
    present = counts > 0
    own = counts.sum(axis=0)
    among = (counts.sum(axis=1)[:, None] * present).sum(axis=0)
    found = own > 0
    weights = np.ones(counts.shape[1])
    if found.any():
        frequency = own[found] / among[found]
        weights[found] = np.median(frequency) / frequency
    return [round(float(weight), 4) for weight in weights]


def quick_check(data_set: DataSet, *, samples: int = 64, threads: int = 2) -> list[str]:
    """Examine evenly spread examples before a long run; return warnings.

    Raises:
        UserError: an example has an error, such as a label in colour, or none is labelled.
    """
    entries = list_entries(data_set)
    chosen = np.linspace(0, len(entries) - 1, min(samples, len(entries))).round().astype(int)
    sample = survey(data_set, [entries[index] for index in chosen], threads=threads)
    findings = [finding for e in sample.examinations for finding in e.findings]
    for finding in (*findings, *sample.findings):
        if finding.severity == "error":
            raise UserError(finding.message)
    found = np.flatnonzero(sample.images[:IGNORE_LABEL]).tolist()
    if not found:
        raise UserError(
            f"Every label sampled from {data_set.split} is unlabelled (255) everywhere; check the "
            "folder of labels."
        )
    warnings = _one_of_each_kind([f for f in findings if f.severity == "warning"])
    told = "some black and white", "misplaced labels"
    warnings += [f.message for f in sample.findings if f.kind in told]
    if len(found) == 1:
        warnings.append(
            f"Every label sampled from {data_set.split} is {data_set.class_names[found[0]]}"
            f"{' or unlabelled (255)' if sample.images[IGNORE_LABEL] else ''}: is it the right "
            "folder of labels?"
        )
    return warnings


def _is_files(data_set: DataSet) -> TypeGuard[Folder]:
    """Return whether the examples are what is in files, not what a subclass makes of them."""
    return isinstance(data_set, Folder) and type(data_set).open is Folder.open


def _one_of_each_kind(findings: Sequence[Finding]) -> list[str]:
    """Return the first sentence of each kind, and how many more there are."""
    more, first = Counter(), {}
    for finding in findings:
        more[finding.kind] += finding.kind in first
        first.setdefault(finding.kind, finding.message)
    return [
        f"{message} The same of {more[kind]} more in the sample." if more[kind] else message
        for kind, message in first.items()
    ]


def _bands(data_set: DataSet) -> int:
    """Return how many bands the images in files have; 0 where they are photographs."""
    return data_set.bands if _is_files(data_set) else 0


def _meaning(data_set: DataSet) -> LabelValues:
    """Return what the values of labels mean."""
    return data_set.meaning() if _is_files(data_set) else LabelValues(len(data_set.class_names))


def _readable(read: Callable[[Any], Any], what: Any) -> Any:
    try:
        return read(what)
    except UserError:
        return None


def _sum_up(
    data_set: DataSet,
    source: Source | None,
    entries: list[Entry],
    examinations: list[Examination],
) -> Survey:
    names = data_set.class_names
    counted = [e.counts for e in examinations if e.counts is not None]
    counts = np.stack(counted) if counted else np.zeros((0, 256), np.int64)
    pixels, images = counts.sum(axis=0), (counts > 0).sum(axis=0)
    split = data_set.split
    findings = []

    def add(kind: str, message: str) -> None:
        findings.append(Finding(kind, split, message))

    void = float(pixels[IGNORE_LABEL] / max(1, pixels.sum()))
    if void > _MOSTLY:
        add("mostly void", f"{split} is unlabelled (255) in {100 * void:.0f} % of its pixels.")
    if masks := _black_and_white(data_set, counts):
        add(
            "some black and white" if images[1] else "black and white",
            f"{masks} of {len(counts)} labels of {split} hold 255, which is unlabelled, and no 1; "
            f"if 255 is {names[1]} in them, set the data set's values=(0, 255).",
        )
    if counted:
        for index in np.flatnonzero(images[: len(names)] == 0).tolist():
            add("class absent", f"No label of {split} holds the class {index} ({names[index]}).")
    if grey := sum(e.grey_label for e in examinations):
        add(
            "grey labels",
            f"{grey} of {len(examinations)} labels of {split} are grey PNGs without a palette; "
            "they are read all the same, but viewers show them nearly black.",
        )
    colours = sum((e.colours for e in examinations), Counter())
    if colours:
        add("colour map", _colour_map(colours, names, split))
    if way := misplaced([e.edges for e in examinations if e.edges is not None]):
        add(
            "misplaced labels",
            f"The labels of {split} seem to be {way}: edges of the images lie elsewhere. Look at "
            "the pictures, and mend what made the labels.",
        )
    weights = median_frequency_weights(counts[:, : len(names)])
    return Survey(data_set, source, entries, examinations, findings, pixels, images, void, weights)


def _black_and_white(data_set: DataSet, counts: np.ndarray) -> int:
    """Return how many label files of two classes may have 255 where the second class should be."""
    if not _is_files(data_set) or data_set.values or len(data_set.class_names) != 2:
        return 0
    return int(((counts[:, IGNORE_LABEL] > 0) & (counts[:, 1] == 0)).sum())


def _colour_map(colours: Counter[int], names: Sequence[str], split: str) -> str:
    """Return a sentence that says which id each colour of the labels could become."""
    total = sum(colours.values())
    common = [(c, n / total) for c, n in colours.most_common() if n / total >= _RARE_COLOUR]
    voc = {int.from_bytes(bytes(rgb)): i for i, rgb in enumerate(voc_palette()[: len(names)])}
    voc[int.from_bytes(bytes(voc_palette()[IGNORE_LABEL]))] = IGNORE_LABEL
    if all(colour in voc for colour, _ in common):
        ids, why = [voc[colour] for colour, _ in common], "they are VOC's, so"
    else:
        ids = [i if i < len(names) else IGNORE_LABEL for i in range(len(common))]
        why = "by their frequency, to be checked against your classes,"
    rows = [
        f"{to_colour(colour)} ({100 * share:.1f} %) -> {id} "
        f"({'unlabelled' if id == IGNORE_LABEL else names[id]})"
        for (colour, share), id in zip(common, ids, strict=True)
    ]
    return (
        f"Labels of {split} are pictures in {len(common)} colours (those of less than "
        f"{100 * _RARE_COLOUR} % left out); {why} save PNGs of the ids {', '.join(rows)}."
    )

"""Files below a folder, or in a tar or zip archive that is read where it is, not unpacked."""

import dataclasses
import functools
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from deeplab_mnv2.data.photographs import files_below
from deeplab_mnv2.errors import UserError

_ARCHIVES = (".tar", ".zip")
# Folders within folders that are looked into.
_DEEPEST = 8
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class FileTree(Protocol):
    """Files by their paths below a root; picklable, so that worker processes can hold it."""

    @property
    def paths(self) -> list[str]:
        """The paths of all files, with slashes, sorted; hidden files are left out."""
        ...

    @property
    def folders(self) -> list[str]:
        """The paths of all folders, empty ones too, sorted."""
        ...

    def read(self, index: int) -> bytes:
        """Return the content of a file by its place in `paths`.

        Raises:
            UserError: it cannot be read.
        """
        ...

    def describe(self, path: str) -> str:
        """Return where a file is, for a message."""
        ...


def open_tree(root: str) -> FileTree:
    """Return the files of a folder, of a .tar or of a .zip.

    A tar within a tar, as ImageNet's is, stands for a folder of its name without the suffix.

    Raises:
        UserError: there is no such folder or archive, or it is damaged, compressed as a whole,
            or holds links, two files of one name or a path that leads out of it.
    """
    path = Path(os.path.expanduser(root))
    if path.is_dir():
        problems: list[str] = []
        found = files_below(path, problems)
        if problems:
            raise UserError(problems[0])
        paths = sorted(file.relative_to(path).as_posix() for file in found)
        return FolderTree(path, paths, _folders_in(path))
    if not path.is_file():
        raise UserError(
            f"{root} does not exist; set the data set's root to the folder or the archive that "
            "holds its images."
        )
    if path.name.lower().endswith(_COMPRESSED):
        raise UserError(
            f"{path} is compressed as a whole, so no image in it can be read by itself; unpack it, "
            "or pack it again as .tar or .zip."
        )
    if path.suffix.lower() not in _ARCHIVES:
        raise UserError(f"{path} is no folder, .tar or .zip; set the data set's root to one.")
    status = path.stat()
    return _open_archive(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _open_archive(path: Path, size: int, modified: int) -> FileTree:
    """Index an archive once for all its splits; another size or time is another archive."""
    try:
        return _index_zip(path) if path.suffix.lower() == ".zip" else _index_tar(path)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an archive ({error}); get it again.") from error


@dataclasses.dataclass(frozen=True)
class FolderTree:
    """See `FileTree`."""

    root: Path
    paths: list[str]
    folders: list[str]

    def read(self, index: int) -> bytes:
        path = self.root / self.paths[index]
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}).") from error

    def describe(self, path: str) -> str:
        return str(self.root / path)


@dataclasses.dataclass(frozen=True)
class TarTree:
    """See `FileTree`; a file is a range of the archive's bytes."""

    archive: Path
    paths: list[str]
    offsets: np.ndarray
    sizes: np.ndarray
    folders: list[str]

    def read(self, index: int) -> bytes:
        size = int(self.sizes[index])
        try:
            with self.archive.open("rb") as file:
                file.seek(int(self.offsets[index]))
                content = file.read(size)
        except OSError as error:
            raise UserError(f"{self.archive} cannot be read ({error.strerror}).") from error
        if len(content) < size:
            raise UserError(
                f"{self.describe(self.paths[index])} is cut short: the archive ends in it; get "
                "the archive again."
            )
        return content

    def describe(self, path: str) -> str:
        return f"{path} in {self.archive}"


@dataclasses.dataclass(frozen=True)
class ZipTree:
    """See `FileTree`; each read opens the archive's member anew, from any thread."""

    archive: Path
    paths: list[str]
    members: list[str]
    folders: list[str]

    def read(self, index: int) -> bytes:
        try:
            return _zip_file(self.archive, os.getpid()).read(self.members[index])
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            where = self.describe(self.paths[index])
            raise UserError(f"{where} cannot be read ({error}); get the archive again.") from error

    def describe(self, path: str) -> str:
        return f"{path} in {self.archive}"


@functools.lru_cache(maxsize=4)
def _zip_file(path: Path, process: int) -> zipfile.ZipFile:
    """Return an open archive; reading members is safe from threads, but not across a fork."""
    return zipfile.ZipFile(path)


def _index_tar(path: Path) -> TarTree:
    places: dict[str, tuple[int, int]] = {}
    empty: list[str] = []
    with path.open("rb") as file:
        for name, offset, size in _members(file, path, "", empty):
            if name in places:
                raise UserError(
                    f"{path} holds two files of the name {name[:200]}; pack it again with one."
                )
            places[name] = offset, size
    names = sorted(places)
    table = np.array([places[name] for name in names], np.int64).reshape(-1, 2)
    return TarTree(path, names, table[:, 0], table[:, 1], sorted({*_above(names), *empty}))


def _members(file, path: Path, prefix: str, empty: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yield path, offset and size of the files in the tar that `file` stands at."""
    end = path.stat().st_size
    inner = []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            name = _checked(member.name, path)
            if member.isdir():
                empty.append(prefix + name)
            elif not member.isreg():
                raise UserError(
                    f"{path} holds {name[:200]}, which is a link and no file; pack it again with "
                    "links followed (tar --dereference)."
                )
            elif member.offset_data + member.size > end:
                raise UserError(f"{path} is cut short at {name[:200]}; get it again.")
            elif name.endswith(".tar") and not prefix:
                inner.append((name.removesuffix(".tar") + "/", member.offset_data))
            elif not _is_hidden(name):
                yield prefix + name, member.offset_data, member.size
    for folder, offset in inner:
        file.seek(offset)
        empty.append(folder.rstrip("/"))
        yield from _members(file, path, folder, empty)


def _index_zip(path: Path) -> ZipTree:
    members: dict[str, str] = {}
    empty = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _checked(member.filename, path)
            if member.is_dir():
                empty.append(name.rstrip("/"))
                continue
            if name in members:
                raise UserError(
                    f"{path} holds two files of the name {name[:200]}; pack it again with one."
                )
            if not _is_hidden(name):
                members[name] = member.filename
    names = sorted(members)
    folders = sorted({*_above(names), *empty})
    return ZipTree(path, names, [members[name] for name in names], folders)


def _checked(name: str, archive: Path) -> str:
    """Return the path of a member without a leading `./`.

    Raises:
        UserError: it leads out of the archive.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{archive} holds {name[:200]!r}, a path that leads out of it; get another archive."
        )
    return path.as_posix()


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _folders_in(root: Path) -> list[str]:
    found = []
    for folder, names, _ in os.walk(root, followlinks=True):
        below = Path(folder).relative_to(root)
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [(below / name).as_posix() for name in names]
        if len(below.parts) > _DEEPEST:
            # Links may go round in circles.
            names.clear()
    return sorted(found)


def _above(paths: list[str]) -> set[str]:
    """Return every folder that a path is below."""
    folders = {path.rpartition("/")[0] for path in paths} - {""}
    return {"/".join(f.split("/")[:n]) for f in folders for n in range(1, f.count("/") + 2)}

"""Published archives: found or downloaded, and verified before anything is read from them."""

import dataclasses
import hashlib
import http.client
import os
import shutil
import urllib.request
from pathlib import Path

import rich.progress

from deeplab_mnv2.errors import UserError

TIMEOUT = 60  # seconds without a byte before an address is given up


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published file: its addresses in order of preference, size in bytes and sha256."""

    filename: str
    urls: tuple[str, ...]
    size: int
    sha256: str

    def find(self, folder: Path) -> Path | None:
        """Return the archive's path in a folder the user filled; None where it is not there.

        Raises UserError for a file that is not the published one.
        """
        path = folder / self.filename
        if not path.exists():
            return None
        # A file of another size is not read to its end, however large it is.
        if not path.is_file() or path.stat().st_size != self.size or _sha256(path) != self.sha256:
            raise UserError(
                f"{path} is damaged or not the official file (its sha256 is not {self.sha256}): "
                "get it again, or remove it to have it downloaded."
            )
        return path

    def download(self, folder: Path) -> Path:
        """Return the archive's path in `folder`, downloaded from the first address that works.

        A download that was cut short resumes where it stopped, at whichever address. Raises
        UserError when no address delivers the published file.
        """
        path = folder / self.filename
        if path.exists():  # never renamed to this name unverified
            return path
        part = folder / f"{self.filename}.part"
        failures = []
        for url in self.urls:
            print(f"Downloading {url} ({self.size / 1e9:.1f} GB) to {path}", flush=True)
            try:
                _fetch(url, part, self.size)
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"{url} ({error})")
                continue
            if _sha256(part) == self.sha256:
                os.replace(part, path)
                return path
            part.unlink()
            failures.append(f"{url} (its sha256 is not {self.sha256})")
        raise UserError(
            f"{self.filename} could not be downloaded from {' or '.join(failures)}: "
            "get it by other means and name its folder as manual_dir."
        )


def _fetch(url: str, part: Path, size: int) -> None:
    """Complete the file `part` to `size` bytes.

    Raises OSError or HTTPException, leaving what has arrived for the next attempt.
    """
    done = part.stat().st_size if part.exists() else 0
    if done == size:
        return
    headers = {"User-Agent": "deeplab_mnv2"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            done = 0
        # An error page must not pass for a piece of the archive.
        if response.length != size - done:
            raise OSError(f"it offers {response.length} bytes, not {size - done}")
        with (
            part.open("ab" if done else "wb") as file,
            rich.progress.wrap_file(response, size - done, description=part.stem) as stream,
        ):
            shutil.copyfileobj(stream, file)
    if part.stat().st_size != size:
        raise OSError("the connection closed early")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with rich.progress.open(path, "rb", description=f"Verifying {path.name}") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

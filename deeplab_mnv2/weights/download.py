"""Weights files at an address of the web, fetched once."""

import importlib
import logging
from pathlib import Path

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason

_DIGEST = "#sha256="


def is_address(path: str) -> bool:
    """Return whether a path is an address of the web."""
    return path.startswith(("https://", "http://"))


def download(address: str) -> Path:
    """Return the file at `https://.../NAME[#sha256=DIGEST]`, from the user's cache where it is.

    The cache is `deeplab_mnv2` in the system's folder for caches. With a digest a file that has
    another one is neither kept nor used.

    Raises:
        UserError: it cannot be fetched, or is another file than the digest is of.
    """
    # Not above: what fetches nothing, which is nearly every command, need not wait for them.
    pooch, requests = (importlib.import_module(name) for name in ("pooch", "requests"))
    url, _, digest = address.partition(_DIGEST)
    # It would print what to write as a digest.
    pooch.get_logger().setLevel(logging.ERROR)
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{digest.lower()}" if digest else None,
                path=pooch.os_cache("deeplab_mnv2") / "weights",
            )
        )
    except requests.RequestException as error:
        raise UserError(
            f"{url} cannot be fetched ({reason(error)}); check the address and the network, or "
            "fetch the file yourself and give its path."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The file at {url} has another SHA-256 than {digest}; check the address, or leave "
            f"{_DIGEST} out to take the file as it is."
        ) from error
    except OSError as error:
        raise UserError(
            f"{url} cannot be kept ({error.strerror}); set XDG_CACHE_HOME to a folder that can be "
            "written."
        ) from error

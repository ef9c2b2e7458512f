"""Images as the bytes of a file."""

import io
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file of a kind such as "PNG" or "JPEG", with Pillow's options.

    For files too: what Pillow itself writes to a full disk ends in the middle without an error.
    """
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()

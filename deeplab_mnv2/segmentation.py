"""What `Segmenter` returns: a photograph with the class of each of its pixels."""

import dataclasses
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_mnv2.data.voc_classes import voc_palette
from deeplab_mnv2.evaluation.visualize import overlay, photo_uri

# Rows that are painted at a time: painting takes some 80 bytes a pixel.
_ROWS = 256
_NOTEBOOK_HEIGHT = 320


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A photograph and the class of each of its pixels; a notebook shows it as a picture.

    `photo` is (H, W, 3) uint8 RGB, upright; `label` (H, W) uint8; `probabilities`
    (H, W, classes) float32 where asked for; `path` the file it was read from, if any.
    """

    photo: np.ndarray
    label: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None = None
    path: Path | None = None

    def overlay(self, *, opacity: float = 0.6) -> Image.Image:
        """Return the photograph with its classes painted over in VOC's colours."""
        bands = [slice(top, top + _ROWS) for top in range(0, len(self.label), _ROWS)]
        painted = [overlay(self.photo[b], self.label[b], opacity=opacity) for b in bands]
        return Image.fromarray(np.concatenate(painted))

    def palette_image(self) -> Image.Image:
        """Return the class ids as a palette image in VOC's colours; saved as PNG, a label file."""
        image = Image.fromarray(self.label)
        image.putpalette(voc_palette().tobytes())
        return image

    def classes(self) -> dict[str, float]:
        """Return the share of the pixels of each class that occurs, largest first."""
        return {self.class_names[index]: share for index, share in self._shares()}

    def _shares(self) -> list[tuple[int, float]]:
        counts = np.bincount(self.label.reshape(-1), minlength=len(self.class_names))
        order = np.argsort(-counts, kind="stable")
        return [(int(i), float(counts[i] / self.label.size)) for i in order if counts[i]]

    def __repr__(self) -> str:
        height, width = self.label.shape
        classes = ", ".join(f"{name} {share:.1%}" for name, share in self.classes().items())
        return f"Segmentation({width} x {height}: {classes})"

    def _repr_png_(self) -> bytes:
        picture = self.overlay()
        picture.thumbnail((4 * _NOTEBOOK_HEIGHT, _NOTEBOOK_HEIGHT))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        pictures = "".join(
            f'<img alt="{name}" src="{photo_uri(picture, _NOTEBOOK_HEIGHT)}" '
            'style="max-width:100%;margin:0 4px 4px 0">'
            for name, picture in (
                ("photograph", self.photo),
                ("its classes painted over it", np.asarray(self.overlay())),
            )
        )
        legend = "".join(
            '<span style="display:inline-block;margin-right:1em;white-space:nowrap">'
            '<span style="display:inline-block;width:.8em;height:.8em;margin-right:.3em;'
            f'background:rgb({",".join(map(str, voc_palette()[index]))})"></span>'
            f"{html.escape(self.class_names[index])} {share:.1%}</span>"
            for index, share in self._shares()
        )
        return f"<div>{pictures}</div><div>{legend}</div>"

"""Published weights, read from their files and written to ours.

from deeplab_mnv2 import weights
model = weights.load("deeplab.tflite")
"""

from deeplab_mnv2.weights.hugging_face import to_hugging_face
from deeplab_mnv2.weights.model_weights import (
    Weights,
    build,
    build_classifier,
    build_deeplab,
    build_detector,
    fill,
    from_model,
)
from deeplab_mnv2.weights.native import save
from deeplab_mnv2.weights.norm_statistics import calibrate
from deeplab_mnv2.weights.reading import PACKAGED, load, load_classifier, load_detector, read
from deeplab_mnv2.weights.run import find_run

__all__ = [
    "PACKAGED",
    "Weights",
    "build",
    "build_classifier",
    "build_deeplab",
    "build_detector",
    "calibrate",
    "fill",
    "find_run",
    "from_model",
    "load",
    "load_classifier",
    "load_detector",
    "read",
    "save",
    "to_hugging_face",
]

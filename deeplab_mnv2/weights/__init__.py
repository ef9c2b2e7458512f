"""Published weights, read from their files and written to ours.

from deeplab_mnv2 import weights
model = weights.load("deeplab.tflite")
"""

from deeplab_mnv2.weights.calibration import calibrate
from deeplab_mnv2.weights.formats import load, load_classifier, read
from deeplab_mnv2.weights.hugging_face import to_hugging_face
from deeplab_mnv2.weights.native import save
from deeplab_mnv2.weights.tensors import Weights, build, build_deeplab, fill, from_model

__all__ = [
    "Weights",
    "build",
    "build_deeplab",
    "calibrate",
    "fill",
    "from_model",
    "load",
    "load_classifier",
    "read",
    "save",
    "to_hugging_face",
]

"""MobileNetV2 in JAX and Flax: segmentation with DeepLab, classification, SSDLite detection."""

from deeplab_mnv2 import weights
from deeplab_mnv2.config import Config, ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.classification.classifier import Classifier
from deeplab_mnv2.tasks.detection.detector import Detector
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter

__all__ = [
    "Classifier",
    "Config",
    "DeepLab",
    "Detector",
    "ModelConfig",
    "Segmenter",
    "UserError",
    "weights",
]

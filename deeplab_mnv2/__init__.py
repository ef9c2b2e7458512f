"""MobileNetV2 in JAX and Flax: segmentation with DeepLab, classification, SSDLite detection."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Imported when they are first asked for (PEP 562): a list of commands need not wait for JAX.
_MODULES = {
    "Classifier": "tasks.classification.classifier",
    "Config": "config",
    "DeepLab": "models.deeplab",
    "Detector": "tasks.detection.detector",
    "ModelConfig": "config",
    "Segmenter": "tasks.segmentation.segmenter",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    if name == "weights":
        return importlib.import_module(f"{__name__}.weights")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

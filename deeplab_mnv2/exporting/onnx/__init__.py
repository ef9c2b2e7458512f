"""ONNX: the graph built directly, norm folded, boxes found by standard operations."""

from deeplab_mnv2.exporting.onnx.file import build, load

__all__ = ["build", "load"]

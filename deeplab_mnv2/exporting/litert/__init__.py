"""LiteRT (TFLite): the flatbuffer built directly, metadata for its task library inside."""

from deeplab_mnv2.exporting.litert.file import build, load

__all__ = ["build", "load"]

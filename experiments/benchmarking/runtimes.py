"""The exported network in inference runtimes: ONNX Runtime and LiteRT."""

from collections.abc import Callable

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.target import Target
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.ssdlite import SSDLite
from experiments.benchmarking.case import Case


def onnxruntime(case: Case, model: DeepLab | SSDLite) -> Callable[[], object]:
    """Return one forward pass of the ONNX file in ONNX Runtime, on all cores."""
    from deeplab_mnv2.exporting import onnx  # noqa: PLC0415

    return _program(case, model, onnx)


def litert(case: Case, model: DeepLab | SSDLite) -> Callable[[], object]:
    """Return one forward pass of the LiteRT file in LiteRT, on all cores."""
    from deeplab_mnv2.exporting import litert  # noqa: PLC0415

    return _program(case, model, litert)


def _program(case: Case, model: DeepLab | SSDLite, exporter) -> Callable[[], object]:
    if case.kind != "forward":
        raise UserError(f"Runtimes only run inference, not {case.name}; leave that peer out.")
    if case.batch_size != 1:
        raise UserError(f"Runtimes run one image at a time, not {case.name}; use b1.")
    model.eval()
    names = tuple(str(number) for number in range(model.config.num_classes))
    content = exporter.build(model, Target(class_names=names, size=(case.size, case.size)))
    run = exporter.load(content, model)
    image = case.batch()["image"]
    return lambda: run(image)

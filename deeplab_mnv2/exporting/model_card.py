"""The card of published weights: what the hub shows of a network, made from what its file tells."""

from typing import Any

import jax
import yaml
from flax import nnx

from deeplab_mnv2.config import BackboneConfig, ClassifierConfig, SsdLiteConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.model_weights import Weights, abstract_model, number_classes
from deeplab_mnv2.weights.naming import SCORE_TITLES, SCORES
from deeplab_mnv2.weights.native import public_source

_PIPELINES = {
    "segmentation": "image-segmentation",
    "classification": "image-classification",
    "detection": "object-detection",
}
_CLASSES = {
    "segmentation": "Segmenter",
    "classification": "Classifier",
    "detection": "Detector",
}
# By which name the hub knows scores.
_METRICS = {
    "miou": "mean_iou",
    "top1": "accuracy",
    "ap": "mean_average_precision",
    "ap50": "mean_average_precision",
}
# Of more classes the first are named.
_NAMED = 100


def model_card(source: Weights, name: str) -> str:
    """Return the card, in Markdown with the hub's header, of a network called `name`.

    Raises:
        UserError: the weights are of a backbone alone.
    """
    if source.kind == "backbone":
        raise UserError(
            f"{source.provenance['source']} holds a backbone alone, which predicts nothing; "
            "train a task on it and publish that."
        )
    pipeline = _PIPELINES[source.kind]
    header = {
        "library_name": "deeplab_mnv2",
        "pipeline_tag": pipeline,
        "tags": ["jax", "flax", "mobilenet-v2", source.kind],
    }
    scores = source.scores or {}
    metric = next((key for key in SCORES[source.kind] if key in scores), None)
    if metric is not None:
        header["model-index"] = [
            {"name": name.split("/")[-1], "results": [_result(scores, metric, pipeline)]}
        ]
    sections = [
        f"# {name.split('/')[-1]}",
        _summary(source),
        _use(source.kind, name),
        _classes(source),
        _scores(scores, metric),
        _origin(source),
    ]
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n" + "\n\n".join(sections) + "\n"


def _result(scores: dict[str, Any], metric: str, pipeline: str) -> dict[str, Any]:
    protocol = scores["protocol"]
    data_set = {"name": protocol["data_set"], "type": "other", "split": protocol["split"]}
    value = {"name": SCORE_TITLES[metric], "value": round(100 * scores[metric], 2)}
    metrics = [{"type": _METRICS[metric], **value}]
    return {"task": {"type": pipeline}, "dataset": data_set, "metrics": metrics}


def _summary(source: Weights) -> str:
    config, parameters = source.config, nnx.state(abstract_model(source.config), nnx.Param)
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    return (
        f"{_network(config)} for {source.kind}, width {config.width_multiplier:g}, output stride "
        f"{config.output_stride}, {config.num_classes} classes, {count:,} parameters, in JAX and "
        "Flax. Kernels are stored in float16."
    )


def _network(config: BackboneConfig) -> str:
    backbone = f"MobileNetV{config.version}"
    if isinstance(config, ClassifierConfig):
        return backbone
    if isinstance(config, SsdLiteConfig):
        return f"SSDLite on {backbone}"
    return f"DeepLab{'v3+' if getattr(config, 'decoder', False) else 'v3'} on {backbone}"


def _use(kind: str, name: str) -> str:
    shown = 'found.overlay().save("overlay.png")'
    if kind == "classification":
        shown = "print(found.top())"
    return f"""## Use

```python
from deeplab_mnv2 import {_CLASSES[kind]}

found = {_CLASSES[kind]}.load("hf://{name}")("photo.jpg")
{shown}
```

In commands, `--weights hf://{name}`: `predict`, `evaluate`, `export` and `train` all take it."""


def _classes(source: Weights) -> str:
    names = source.class_names or number_classes(source.config.num_classes)
    listed = ", ".join(names[:_NAMED]) + (", and more" if len(names) > _NAMED else "")
    return f"## Classes\n\n{listed}."


def _scores(scores: dict[str, Any], metric: str | None) -> str:
    if metric is None:
        return "## Score\n\nThe file tells none; `python -m deeplab_mnv2.evaluate` measures one."
    low, high = (100 * end for end in scores["ci95"])
    protocol = scores["protocol"]
    told = {key: value for key, value in protocol.items() if key not in ("classes", "versions")}
    rows = "\n".join(f"| {key} | {value} |" for key, value in told.items())
    return (
        f"## Score\n\n{SCORE_TITLES[metric]} {100 * scores[metric]:.2f} (95 % interval over images "
        f"{low:.2f} to {high:.2f}) on {scores['images']} images. Of another run of the recipe "
        "the interval says nothing. Measured so:\n\n| protocol | |\n| --- | --- |\n"
        f"{rows}"
    )


def _origin(source: Weights) -> str:
    told = {k: v for k, v in source.provenance.items() if k != "source" and v != "unknown"}
    told["source"] = public_source(source.provenance["source"])
    rows = "\n".join(f"| {key} | {value} |" for key, value in sorted(told.items()))
    return (
        "## Where it comes from\n\n| | |\n| --- | --- |\n"
        f"{rows}\n\nThe licence is that of the data and weights it was trained from."
    )

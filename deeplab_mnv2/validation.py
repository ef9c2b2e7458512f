"""Whether the settings of a run fit each other, before anything is built."""

from typing import Any

from deeplab_mnv2.config import FREEZABLE, IGNORE_LABEL, Config, ModelConfig
from deeplab_mnv2.errors import UserError


def validate(config: Config) -> None:
    """Check the settings against each other, before anything is built.

    Raises:
        UserError: a setting is out of range or does not fit another.
    """
    model, data, train = config.model, config.data, config.train
    validate_model(model)
    if data.crop_size % model.output_stride != 1 or data.crop_size <= model.output_stride:
        stride = model.output_stride
        near = max(1, (data.crop_size + stride // 2) // stride) * stride + 1
        raise UserError(
            f"data.crop_size={data.crop_size} is not a multiple of model.output_stride="
            f"{model.output_stride} plus one; the nearest that fits is {near}."
        )
    scored = config.evaluation
    for name, values in (
        ("data.scale_range", data.scale_range),
        ("loss.class_weights", config.loss.class_weights),
        ("evaluation.scales", scored.scales),
    ):
        _require(_holds(values, int | float), name, values, "a list of numbers")
    for name in ("pad_sizes", "boundary_widths"):
        values = getattr(scored, name)
        _require(_holds(values, int), f"evaluation.{name}", values, "a list of whole numbers")
    low, high = data.scale_range if len(data.scale_range) == 2 else (0, 0)
    _require(0 < low <= high, "data.scale_range", data.scale_range, "two increasing numbers > 0")
    _require(data.scale_step >= 0, "data.scale_step", data.scale_step, "0 or more")
    _require(data.threads >= 1, "data.threads", data.threads, "1 or more")
    _require(data.workers >= 0, "data.workers", data.workers, "0 or more")
    steps = ("total_steps", "log_every", "eval_every", "checkpoint_every")
    for name in (*steps, "batch_size", "accumulate", "fsdp", "space"):
        _require(getattr(train, name) >= 1, f"train.{name}", getattr(train, name), "1 or more")
    _require(data.train_examples >= 0, "data.train_examples", data.train_examples, "0 or more")
    _require(scored.batch_size >= 1, "evaluation.batch_size", scored.batch_size, "1 or more")
    _require(scored.pictures >= 0, "evaluation.pictures", scored.pictures, "0 or more")
    samples = scored.bootstrap_samples
    _require(samples >= 1, "evaluation.bootstrap_samples", samples, "1 or more")
    scales = scored.scales
    _require(bool(scales) and min(scales) > 0, "evaluation.scales", scales, "numbers above 0")
    _require(bool(scored.pad_sizes), "evaluation.pad_sizes", scored.pad_sizes, "one or more sizes")
    widths = scored.boundary_widths
    _require(
        list(widths) == sorted(set(widths)) and min(widths, default=1) >= 1,
        "evaluation.boundary_widths",
        widths,
        "increasing numbers of 1 or more",
    )
    _require(
        model.in_channels == 3,
        "model.in_channels",
        model.in_channels,
        "3 in a run, whose images are in colour; build DeepLab itself for others",
    )
    seconds = train.checkpoint_every_seconds
    _require(seconds >= 0, "train.checkpoint_every_seconds", seconds, "0 or more")
    for name, value in (("train.nonfinite", train.nonfinite), ("data.damaged", data.damaged)):
        _require(value in ("stop", "skip"), name, value, "stop or skip")
    _require(train.seed >= 0, "train.seed", train.seed, "0 or more")
    _require(0 <= train.ema_decay < 1, "train.ema_decay", train.ema_decay, "in [0, 1)")
    _require(
        train.batch_size % train.accumulate == 0,
        "train.accumulate",
        train.accumulate,
        f"a divisor of train.batch_size={train.batch_size}",
    )
    threshold = data.repeat_threshold
    _require(threshold >= 0, "data.repeat_threshold", threshold, "0 or more")
    for name in train.freeze:
        _require(name in FREEZABLE, "train.freeze", name, f"some of {', '.join(FREEZABLE)}")
        _require(
            name != "decoder" or model.decoder, "train.freeze", name, "a part that the model has"
        )
    _require(0 < config.loss.top_k <= 1, "loss.top_k", config.loss.top_k, "in (0, 1]")
    weights = config.loss.class_weights
    _require(
        len(weights) in (0, model.num_classes),
        "loss.class_weights",
        weights,
        f"empty or one number for each of the {model.num_classes} classes",
    )
    stride = scored.output_stride or model.output_stride
    _require(stride in (8, 16, 32), "evaluation.output_stride", stride, "8, 16 or 32 (0: as is)")
    for size in scored.pad_sizes:
        _require(
            size % stride == 1,
            "evaluation.pad_sizes",
            size,
            f"a multiple of the output stride {stride} plus one",
        )
    for split in (data.train, data.val):
        if len(split.class_names) != model.num_classes:
            raise UserError(
                f"model.num_classes={model.num_classes} but the data set names "
                f"{len(split.class_names)} classes; set model.num_classes to that number."
            )


def validate_model(model: ModelConfig) -> None:
    """Check the model's settings alone.

    Raises:
        UserError: a setting is out of range.
    """
    _require(model.num_classes >= 2, "model.num_classes", model.num_classes, "2 or more")
    _require(model.num_classes < IGNORE_LABEL, "model.num_classes", model.num_classes, "below 255")
    _require(
        model.output_stride in (8, 16, 32), "model.output_stride", model.output_stride, "8, 16, 32"
    )
    width = model.width_multiplier
    _require(0 < width <= 4, "model.width_multiplier", width, "above 0 and at most 4")
    for name in ("in_channels", "divisible_by", "head_channels"):
        value = getattr(model, name)
        _require(1 <= value <= 4096, f"model.{name}", value, "1 to 4096")
    for name, choices in (
        ("padding", ("same", "symmetric")),
        ("shortcut", ("bottleneck", "expansion", "none")),
        ("dtype", ("float32", "bfloat16")),
    ):
        value = getattr(model, name)
        _require(value in choices, f"model.{name}", value, " or ".join(choices))
    _require(0 <= model.dropout < 1, "model.dropout", model.dropout, "in [0, 1)")
    rates = model.atrous_rates
    _require(_holds(rates, int), "model.atrous_rates", rates, "a list of whole numbers")
    for name in ("image_mean", "image_std"):
        value = getattr(model, name)
        _require(_holds(value, int | float), f"model.{name}", value, "a list of numbers")
        _require(
            len(value) == model.in_channels,
            f"model.{name}",
            value,
            f"one number for each of model.in_channels={model.in_channels}",
        )
    _require(min(model.image_std) > 0, "model.image_std", model.image_std, "numbers above 0")


def _holds(values: Any, kind: Any) -> bool:
    """Return whether a list from the command line holds what its field says; nobody checks it."""
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _require(holds: bool, setting: str, value: Any, expected: str) -> None:
    if not holds:
        raise UserError(f"{setting}={value!r} is out of range; it must be {expected}.")

"""What papers print of the networks here and of those that they are compared with."""

import dataclasses

from deeplab_mnv2.config import BackboneConfig, ClassifierConfig, DeepLabConfig, SsdLiteConfig

# DeepLab's evaluation at scales 0.5 to 1.75 of 513 pixels; each image also mirrored.
_SCALED, _MIRRORED = (257, 385, 513, 641, 769, 897), 2
_RATES = (6, 12, 18)


@dataclasses.dataclass(frozen=True)
class Row:
    """A network with its published figures, as printed.

    Networks that are not built here have no `model`. `sizes` are the sides of the square images
    that are counted, each run `passes` times; () where none is told.
    """

    network: str
    parameters: str
    multiply_adds: str
    score: str
    sizes: tuple[int, ...]
    model: BackboneConfig | None = None
    passes: int = 1
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that one source prints; `score` says what was scored and in which unit."""

    source: str
    score: str
    rows: tuple[Row, ...]
    note: str = ""


def tables() -> tuple[Table, ...]:
    """Return the tables of the MobileNetV2 paper (arXiv:1801.04381) and what goes with them."""
    return (_imagenet(), _slim(), _mobilenet_v1(), _prediction_layers(), _coco(), _voc(), _zoo())


def _imagenet() -> Table:
    v1, v2 = ClassifierConfig(version=1), ClassifierConfig()
    wide = ClassifierConfig(width_multiplier=1.4)
    side = (224,)
    return Table(
        "MobileNetV2 paper, Table 4",
        "ImageNet top-1 in %",
        (
            Row(
                "MobileNetV1",
                "4.2 M",
                "575 M",
                "70.6",
                side,
                v1,
                note="MobileNetV1's own paper prints 569 M, which agrees.",
            ),
            Row("ShuffleNet (1.5)", "3.4 M", "292 M", "71.5", side),
            Row("ShuffleNet (x2)", "5.4 M", "524 M", "73.7", side),
            Row("NasNet-A", "5.3 M", "564 M", "74.0", side),
            Row(
                "MobileNetV2",
                "3.4 M",
                "300 M",
                "72.0",
                side,
                v2,
                note="3.47 M without norm's parameters, cut to 3.4 M.",
            ),
            Row(
                "MobileNetV2 (1.4)",
                "6.9 M",
                "585 M",
                "74.7",
                side,
                wide,
                note="The table below, by the same authors, has 6.06 M and 582 M, which agree; "
                "6.9 M does not.",
            ),
        ),
    )


def _slim() -> Table:
    published = (
        (1.4, 224, "6.06 M", "582 M", "75.0"),
        (1.3, 224, "5.34 M", "509 M", "74.4"),
        (1.0, 224, "3.47 M", "300 M", "71.8"),
        (1.0, 192, "3.47 M", "221 M", "70.7"),
        (1.0, 160, "3.47 M", "154 M", "68.8"),
        (1.0, 128, "3.47 M", "99 M", "65.3"),
        (1.0, 96, "3.47 M", "56 M", "60.3"),
        (0.75, 224, "2.61 M", "209 M", "69.8"),
        (0.75, 192, "2.61 M", "153 M", "68.7"),
        (0.75, 160, "2.61 M", "107 M", "66.4"),
        (0.75, 128, "2.61 M", "69 M", "63.2"),
        (0.75, 96, "2.61 M", "39 M", "58.8"),
        (0.5, 224, "1.95 M", "97 M", "65.4"),
        (0.5, 192, "1.95 M", "71 M", "63.9"),
        (0.5, 160, "1.95 M", "50 M", "61.0"),
        (0.5, 128, "1.95 M", "32 M", "57.7"),
        (0.5, 96, "1.95 M", "18 M", "51.2"),
        (0.35, 224, "1.66 M", "59 M", "60.3"),
        (0.35, 192, "1.66 M", "43 M", "58.2"),
        (0.35, 160, "1.66 M", "30 M", "55.7"),
        (0.35, 128, "1.66 M", "20 M", "50.8"),
        (0.35, 96, "1.66 M", "11 M", "45.5"),
    )
    return Table(
        "TF-slim, nets/mobilenet/README.md",
        "ImageNet top-1 in %",
        tuple(
            Row(
                f"MobileNetV2 {width}",
                parameters,
                multiply_adds,
                score,
                (size,),
                ClassifierConfig(width_multiplier=width),
            )
            for width, size, parameters, multiply_adds, score in published
        ),
        "Printed are the parameters without norm's, and multiply-adds cut to whole millions.",
    )


def _mobilenet_v1() -> Table:
    published = (
        (1.0, 224, "4.2 M", "569 M", "70.6"),
        (1.0, 192, "4.2 M", "418 M", "69.1"),
        (1.0, 160, "4.2 M", "290 M", "67.2"),
        (1.0, 128, "4.2 M", "186 M", "64.4"),
        (0.75, 224, "2.6 M", "325 M", "68.4"),
        (0.5, 224, "1.3 M", "149 M", "63.7"),
        (0.25, 224, "0.5 M", "41 M", "50.6"),
    )
    return Table(
        "MobileNetV1 paper (arXiv:1704.04861), Tables 6 and 7",
        "ImageNet top-1 in %",
        tuple(
            Row(
                f"MobileNetV1 {width}",
                parameters,
                multiply_adds,
                score,
                (size,),
                ClassifierConfig(version=1, width_multiplier=width),
            )
            for width, size, parameters, multiply_adds, score in published
        ),
    )


def _prediction_layers() -> Table:
    misprint = (
        "Twice what the layers need, 178 M with 80 classes; beside the backbone's 611 M it would "
        "be 0.96 G, not the 0.8 G of Table 6."
    )
    return Table(
        "MobileNetV2 paper, Table 5: SSD's layers after the backbone alone",
        "no score",
        (
            Row("SSD", "14.8 M", "1.25 G", "", (320,)),
            Row("SSDLite", "2.1 M", "0.35 G", "", (320,), note=misprint),
        ),
    )


def _coco() -> Table:
    v1, v2 = SsdLiteConfig(version=1), SsdLiteConfig()
    return Table(
        "MobileNetV2 paper, Table 6",
        "COCO test-dev mAP in %",
        (
            Row("SSD300", "36.1 M", "35.2 G", "23.2", (300,)),
            Row("SSD512", "36.1 M", "99.5 G", "26.8", (512,)),
            Row("YOLOv2", "50.7 M", "17.5 G", "21.6", ()),
            Row("MobileNetV1 + SSDLite", "5.1 M", "1.3 G", "22.2", (320,), v1),
            Row("MobileNetV2 + SSDLite", "4.3 M", "0.8 G", "22.1", (320,), v2),
        ),
    )


def _voc() -> Table:
    def rows(
        network: str, parameters: str, model: DeepLabConfig | None, *printed: tuple[str, str, str]
    ) -> list[Row]:
        (coarse, score, note), (dense, scaled, scaled_note) = printed
        finer = dataclasses.replace(model, output_stride=8) if model else None
        return [
            Row(f"{network}, stride 16", parameters, coarse, score, (513,), model, note=note),
            Row(
                f"{network}, stride 8",
                parameters,
                dense,
                scaled,
                _SCALED,
                finer,
                _MIRRORED,
                scaled_note,
            ),
        ]

    v1 = DeepLabConfig(version=1, atrous_rates=_RATES)
    v2 = DeepLabConfig(atrous_rates=_RATES)
    unexplained = "Neither way of counting gives this."
    return Table(
        "MobileNetV2 paper, Table 7: DeepLabv3",
        "PASCAL VOC 2012 val mIoU in %",
        (
            *rows(
                "V1, ASPP",
                "11.15 M",
                v1,
                ("14.25 G", "75.29", ""),
                ("941.9 G", "78.56", unexplained),
            ),
            *rows("V2, ASPP", "4.52 M", v2, ("5.8 G", "75.70", ""), ("387 G", "78.42", "")),
            *rows(
                "V2", "2.11 M", DeepLabConfig(), ("2.75 G", "75.32", ""), ("152.6 G", "77.33", "")
            ),
            *rows(
                "ResNet-101, ASPP",
                "58.16 M",
                None,
                ("81.0 G", "80.49", ""),
                ("4870.6 G", "82.70", ""),
            ),
        ),
        "At stride 8 an image is scored at six scales, mirrored too: twelve passes. The other "
        "printed multiply-adds are the padded ones, within half a percent.",
    )


def _zoo() -> Table:
    narrow = DeepLabConfig(width_multiplier=0.5, divisible_by=1)
    return Table(
        "TensorFlow DeepLab, g3doc/model_zoo.md",
        "PASCAL VOC 2012 mIoU in %, val at stride 16, test at stride 8",
        (
            Row("V2 0.5, stride 16", "", "0.88 G", "70.19", (513,), narrow),
            Row(
                "V2 0.5, stride 8",
                "",
                "2.84 G",
                "71.83",
                (513,),
                dataclasses.replace(narrow, output_stride=8),
            ),
        ),
    )

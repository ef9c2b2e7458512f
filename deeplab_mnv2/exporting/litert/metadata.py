"""LiteRT metadata: what its task library and MediaPipe read normalisation and labels from.

Written by the published schema (`metadata_schema.fbs`, identifier M001), whose field numbers
stand here as constants; the package that generates them is years old.
"""

import io
import json
import zipfile

import flatbuffers

from deeplab_mnv2.config import BackboneConfig, ClassifierConfig, SsdLiteConfig
from deeplab_mnv2.exporting.target import Target

# Where the schema has no field: JSON, the same as in ONNX files.
SCALING = "scaling"
_IDENTIFIER = b"M001"
_LABEL_FILE = "labels.txt"
# Members of the schema's unions and enumerations.
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1
# By the number of channels; 0 is unknown.
_COLOUR_SPACES = {3: 1, 1: 2}
_BOUNDING_BOX_PROPERTIES, _BOUNDARIES = 3, 1
# Where left, top, right and bottom stand in our boxes, which begin with ymin.
_ORDER_OF_SIDES = (1, 0, 3, 2)
_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS = 2, 3
# What a detector's outputs are, in the order in which they are found.
_BOX_OUTPUTS = {
    "location": "Boxes: ymin, xmin, ymax, xmax in shares of height and width.",
    "category": "Class id of each box.",
    "score": "Score of each box.",
    "number of detections": "How many boxes there are.",
}


def metadata(model: BackboneConfig, target: Target) -> dict[str, bytes]:
    """Return the contents of the metadata buffers by name.

    A classifier has a second one, `scaling`: how its images are scaled and cropped.
    """
    buffers = {"TFLITE_METADATA": _schema_metadata(model, target)}
    if target.scaling:
        buffers[SCALING] = json.dumps(dict(target.scaling)).encode()
    return buffers


def _schema_metadata(model: BackboneConfig, target: Target) -> bytes:
    logits = "Score of each class at each pixel."
    if isinstance(model, SsdLiteConfig):
        title, purpose = f"SSDLite on MobileNetV{model.version}", "Objects in photographs."
        made = "scaled to this size whatever its aspect"
        logits = "Score of each class at each anchor, before the sigmoid; background first."
    elif isinstance(model, ClassifierConfig):
        title, purpose = f"MobileNetV{model.version}", "Classification of photographs."
        made = "cropped from the middle of the scaled photograph"
        logits = "Score of each class, before the softmax."
    else:
        title = f"DeepLab on MobileNetV{model.version}"
        purpose = "Semantic segmentation of photographs."
        made = "padded at the bottom and right with the mean pixel"
    builder = flatbuffers.Builder(1024)
    colours = _COLOUR_SPACES.get(model.in_channels, 0)
    images = _table(builder, 2, {0: ("int8", colours)})  # ImageProperties
    content = _table(  # Content
        builder, 3, {0: ("uint8", _IMAGE_PROPERTIES), 1: ("offset", images)}
    )
    mean, std = (_floats(builder, values) for values in (model.image_mean, model.image_std))
    options = _table(builder, 2, {0: ("offset", mean), 1: ("offset", std)})
    unit = _table(  # ProcessUnit
        builder, 2, {0: ("uint8", _NORMALIZATION_OPTIONS), 1: ("offset", options)}
    )
    image = _tensor(
        builder,
        "image",
        "{} of {} x {} pixels (height, width), {}.".format(
            "RGB image" if model.in_channels == 3 else f"Image of {model.in_channels} bands",
            *target.size,
            made,
        ),
        {3: content, 4: _vector(builder, [unit])},
    )
    if target.box_rules is not None:
        told, labelled, kind = _BOX_OUTPUTS, "category", _TENSOR_VALUE_LABELS
    elif target.argmax:
        told, labelled, kind = {"label": "Class ids."}, "label", _TENSOR_AXIS_LABELS
    else:
        codes = {"codes": "Boxes relative to the anchors."}
        told = (codes if isinstance(model, SsdLiteConfig) else {}) | {"logits": logits}
        labelled, kind = "logits", _TENSOR_AXIS_LABELS
    labels = _table(  # AssociatedFile
        builder,
        5,
        {
            0: ("offset", builder.CreateString(_LABEL_FILE)),
            1: ("offset", builder.CreateString("Names of the classes, one a line.")),
            2: ("int8", kind),
        },
    )
    fields = {labelled: {6: _vector(builder, [labels])}}
    if target.box_rules is not None:
        fields["location"] = {3: _box_content(builder)}
    outputs = [_tensor(builder, name, text, fields.get(name, {})) for name, text in told.items()]
    ends = _vector(builder, [image]), _vector(builder, outputs)
    graph = _table(builder, 10, {2: ("offset", ends[0]), 3: ("offset", ends[1])})
    root = _table(  # ModelMetadata
        builder,
        8,
        {
            0: ("offset", builder.CreateString(title)),
            1: ("offset", builder.CreateString(purpose)),
            3: ("offset", _vector(builder, [graph])),
            # The first version with every field above.
            7: ("offset", builder.CreateString("1.0.0")),
        },
    )
    builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _box_content(builder: flatbuffers.Builder) -> int:
    """Write how a tensor is to be read as boxes, without which MediaPipe does not open the file."""
    builder.StartVector(4, len(_ORDER_OF_SIDES), 4)
    for index in reversed(_ORDER_OF_SIDES):
        builder.PrependUint32(index)
    order = builder.EndVector()
    # In shares of height and width, which is the default of the third field.
    boxes = _table(builder, 3, {0: ("offset", order), 1: ("int8", _BOUNDARIES)})
    return _table(builder, 3, {0: ("uint8", _BOUNDING_BOX_PROPERTIES), 1: ("offset", boxes)})


def label_archive(class_names: tuple[str, ...]) -> bytes:
    """Return the ZIP archive with the labels, which is appended to the model."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # A fixed date: the same model gives the same file.
        archive.writestr(zipfile.ZipInfo(_LABEL_FILE), "".join(f"{n}\n" for n in class_names))
    return content.getvalue()


def _tensor(
    builder: flatbuffers.Builder, name: str, description: str, fields: dict[int, int]
) -> int:
    strings = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    slots = {slot: ("offset", value) for slot, value in (strings | fields).items()}
    return _table(builder, 7, slots)  # TensorMetadata


def _table(builder: flatbuffers.Builder, fields: int, slots: dict[int, tuple[str, int]]) -> int:
    builder.StartObject(fields)
    for slot, (kind, value) in slots.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "int8":
            builder.PrependInt8Slot(slot, value, 0)
        else:
            builder.PrependUint8Slot(slot, value, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: tuple[float, ...]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()

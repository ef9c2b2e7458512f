"""Scoring from the command's point of view, on drawn scenes and on real images."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import EvaluationConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluate import _refuse_other_model, _warn_of_other_classes, evaluate
from deeplab_mnv2.models.deeplab import DeepLab, at_output_stride
from deeplab_mnv2.weights import PACKAGED


def test_another_output_stride_has_the_same_weights(config):
    model = DeepLab(config.model, rngs=nnx.Rngs(0))
    fine = at_output_stride(model, 8)
    assert fine.config.output_stride == 8
    assert model.config.output_stride == 16
    ours, theirs = (jax.tree.leaves(nnx.state(m, nnx.Param)) for m in (fine, model))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_stride_that_is_stamped_is_the_one_scored_at(config):
    model = DeepLab(config.model, rngs=nnx.Rngs(0))
    model.eval()
    settings = dataclasses.replace(config.evaluation, output_stride=8)
    asked, own, coarse = (
        evaluate(network, dataclasses.replace(config, evaluation=scored)).result
        for network, scored in (
            (model, settings),
            (at_output_stride(model, 8), config.evaluation),
            (model, config.evaluation),
        )
    )
    assert asked["confusion"] == own["confusion"] != coarse["confusion"]
    stamps = [result["protocol"] for result in (asked, own, coarse)]
    assert [stamp["output_stride"] for stamp in stamps] == [8, 8, 16]
    assert stamps[0]["protocol_hash"] == stamps[1]["protocol_hash"] != stamps[2]["protocol_hash"]


def test_classes_must_agree(config):
    model = DeepLab(dataclasses.replace(config.model, num_classes=5), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="num_classes"):
        evaluate(model, config)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [("output_stride", 16, "--output_stride 16"), ("dtype", "bfloat16", "leave that setting out")],
)
def test_settings_that_the_weights_do_not_have_are_refused(
    config, monkeypatch, field, value, remedy
):
    stored = dataclasses.replace(config.model, output_stride=8)
    asked = dataclasses.replace(stored, **{field: value})
    overridden: set[str] = set()
    monkeypatch.setattr(command, "overridden", lambda: overridden)
    _refuse_other_model(asked, stored)  # the experiment says so, not the command
    overridden.add(f"model.{field}")
    with pytest.raises(UserError, match=f"not {value!r}; .*{remedy}"):
        _refuse_other_model(asked, stored)


def test_weights_of_other_classes_are_told(capsys):
    _warn_of_other_classes(("a", "cat", "d"), ("a", "cat", "d"))
    assert capsys.readouterr().err == ""
    _warn_of_other_classes(("a", "cat", "d"), ("a", "disc", "d"))
    found = capsys.readouterr().err
    assert "the data set calls 'disc' the weights call 'cat' (1 differ)" in found


def score_on_real_voc(path, shared, config, **settings):
    config.data.val = Folder(root=str(shared / "voc2012"), split="val")
    config.evaluation = EvaluationConfig(pad_sizes=(513, 1025, 2049), **settings)
    result = evaluate(weights.load(str(path)), config).result
    assert result["images"] == 443
    assert result["compilations"] == 1
    return result


@pytest.mark.slow
def test_googles_weights_reach_their_score_on_real_voc(shared, config):
    path = shared / "weights/deeplabv3_mnv2_pascal_quant.tflite"
    # LiteRT's own run of the file on these images: 0.7252.
    assert score_on_real_voc(path, shared, config)["miou"] == pytest.approx(0.7252, abs=0.01)


@pytest.mark.slow
def test_googles_frozen_graph_reaches_its_score_on_real_voc(shared, config):
    path = shared / "weights/deeplabv3_mnv2_dm05_float_frozen.pb"
    result = score_on_real_voc(path, shared, config, output_stride=16, pictures=0)
    # An independent NumPy program's run of the file on these images.
    assert result["miou"] == pytest.approx(0.6617, abs=0.0005)
    assert result["pixel_accuracy"] == pytest.approx(0.9242, abs=0.0001)


@pytest.mark.slow
def test_the_packages_weights_have_the_score_on_their_card(shared, config):
    card, scales = PACKAGED.with_suffix(".md").read_text(), (0.75,)
    stated = float(re.search(r"Score:\*\* ([\d.]+) mIoU", card)[1])
    result = score_on_real_voc(PACKAGED, shared, config, scales=scales)
    assert result["miou"] == pytest.approx(stated, abs=0.001)

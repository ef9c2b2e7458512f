"""What the page shows of a photograph, without a server; and that Gradio makes the page."""

import dataclasses
import sys

import numpy as np
import pytest

from deeplab_mnv2 import demo, weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter
from tests.support.random_weights import random_weights


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def source() -> weights.Weights:
    names = ("sky", "road", "car")
    found = random_weights(width_multiplier=0.35, head_channels=8, num_classes=len(names))
    return dataclasses.replace(found, class_names=names)


def test_a_segmentation_is_shown_with_its_classes(source, photo):
    picture, shares = demo.answer_of(source)(photo)
    expected = Segmenter(weights.build_deeplab(source), source.class_names)(photo)
    assert shares == expected.classes()
    assert sum(shares.values()) == pytest.approx(1)
    assert picture.width == photo.shape[1]
    # With its legend.
    assert picture.height >= photo.shape[0]


# Gradio leaves event loops open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_gradio_shows_is_the_answer(source, photo):
    pytest.importorskip("gradio", reason="the page is tried where Gradio is installed")
    page = demo.make_page(demo.answer_of(source), "Title")
    picture, shares = page.fn(photo)
    assert picture.size == demo.answer_of(source)(photo)[0].size
    assert set(shares) <= set(source.class_names)
    assert page.fn(None) == (None, {})


def test_without_gradio_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"package gradio.*deeplab_mnv2\[demo\]"):
        demo.make_page(lambda photo: (photo, {}), "Title")

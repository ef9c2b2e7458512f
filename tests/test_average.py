"""The mean of networks."""

import dataclasses

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from experiments.tools.average import mean_of
from tests.support.random_weights import random_weights


def test_lies_halfway_and_is_itself_of_one():
    one, two = random_weights(width_multiplier=0.35), random_weights(width_multiplier=0.35)
    two.tensors = {name: tensor + 1 for name, tensor in two.tensors.items()}
    for name, tensor in mean_of([one, two]).tensors.items():
        np.testing.assert_allclose(tensor, one.tensors[name] + 0.5, atol=1e-6)
        assert tensor.dtype == np.float32
    alone = mean_of([dataclasses.replace(one, provenance={"source": "/home/me/runs/one"})])
    # The folder is nobody else's concern.
    assert alone.provenance["mean_of"] == "one"
    assert alone.config == one.config
    assert all((alone.tensors[name] == one.tensors[name]).all() for name in one.tensors)


def test_a_folded_norm_stays_marked_and_is_not_mixed():
    one = random_weights(width_multiplier=0.35)
    folded = dataclasses.replace(one, provenance={**one.provenance, "norm": "folded"})
    assert mean_of([folded, folded]).provenance["norm"] == "folded"
    with pytest.raises(UserError, match="norm folded into the kernels and some have not"):
        mean_of([one, folded])


def test_other_networks_and_classes_are_refused():
    one = random_weights(width_multiplier=0.35)
    for other in (
        random_weights(width_multiplier=0.5),
        dataclasses.replace(one, class_names=tuple("abcdefghijklmnopqrstu")),
    ):
        with pytest.raises(UserError, match="another network"):
            mean_of([one, other])
    with pytest.raises(UserError, match="Name the weights"):
        mean_of([])

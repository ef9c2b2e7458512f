"""Meshes that cannot be."""

import types

import jax
import numpy as np
import pytest

from deeplab_mnv2.config import TrainConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.sharding import make_mesh


def test_devices_must_divide():
    with pytest.raises(UserError, match=r"train\.space=3 does not divide the 8 devices"):
        make_mesh(TrainConfig(space=3))


@pytest.mark.parametrize(("processes", "fits"), [(1, True), (2, True), (4, False)])
def test_no_image_is_split_over_processes(monkeypatch, processes, fits):
    owners = np.repeat(np.arange(processes), 8 // processes)
    devices = [types.SimpleNamespace(process_index=owner) for owner in owners]

    def mesh(shape, *_, **__):
        return types.SimpleNamespace(devices=np.array(devices).reshape(shape))

    monkeypatch.setattr(jax, "make_mesh", mesh)
    if fits:
        make_mesh(TrainConfig(space=4))
    else:
        with pytest.raises(UserError, match=r"train\.space=4 would split an image over processes"):
            make_mesh(TrainConfig(space=4))

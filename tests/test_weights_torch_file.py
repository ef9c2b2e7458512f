"""PyTorch's files without PyTorch: both formats come back exactly, and no code is ever run."""

import collections
import io
import pickle
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.torch_file import read_state_dict
from tests.support import torch_files

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "float": RANDOM.normal(size=(3, 4, 2)).astype(np.float32),
    "double": RANDOM.normal(size=(5,)),
    "half": RANDOM.normal(size=(2, 2)).astype(np.float16),
    "brain": np.array(jnp.arange(6, dtype=jnp.bfloat16)),
    "count": np.array(7),
    "bytes": np.arange(200, dtype=np.uint8),
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "cut out": np.arange(24, dtype=np.float32)[5:11],
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_tensor_comes_back_as_float32(tmp_path, legacy, protocol):
    path = tmp_path / "net.pth"
    content = collections.OrderedDict(ARRAYS)
    # As `Module.state_dict` attaches it.
    content._metadata = collections.OrderedDict({"": {"version": 1}})
    torch_files.save(content, path, legacy=legacy, protocol=protocol)
    found = read_state_dict(str(path))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float32), err_msg=name)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_what_a_trainer_keeps_beside_the_network_is_left(tmp_path, wrapper):
    path = tmp_path / "net.pth"
    network = {"module.a": ARRAYS["float"]}
    optimizer = {"state": {0: {"momentum": ARRAYS["float"], "step": 3}}, "groups": [{"lr": 0.1}]}
    content = {"epoch": 5, wrapper: network, "optimizer": optimizer, "best": (0.5, None, True)}
    torch_files.save(content, path)
    found = read_state_dict(str(path))
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], ARRAYS["float"])


class Payload:
    """An object whose unpickling touches a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, legacy, protocol):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    content = {"state_dict": {"features.0.0.weight": Payload(marker)}}
    torch_files.save(content, path, legacy=legacy, protocol=protocol)
    with pytest.raises(UserError, match=r"evil\.pth .* never run; .*\(a call of \w+\.open\)"):
        weights.read(str(path))
    assert not marker.exists()
    # The file would have run it.
    pickle.loads(pickle.dumps(Payload(marker))).close()
    assert marker.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"a": Payload(marker)}))
    with pytest.raises(UserError, match=r"evil\.pth .* never run"):
        weights.read(str(path))
    assert not marker.exists()


def test_modules_that_a_file_names_are_not_imported(tmp_path):
    path = tmp_path / "evil.pth"
    torch_files.write_zip(path, b"\x80\x02cantigravity\nfly\n)R.", {})
    with pytest.raises(UserError, match=r"a call of antigravity\.fly"):
        weights.read(str(path))
    assert "antigravity" not in sys.modules


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", numel: bytes = b"K\x04") -> bytes:
    """Return the pickle of a state dict with one tensor; the numbers are instructions."""
    storage = (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + numel + b"tQ"
    )
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89NtR"
    return b"\x80\x02}X\x01\0\0\0a" + call + b"s."


SOUND = tensor(b"(K\x02K\x02t", b"(K\x02K\x01t")
HOSTILE = {
    "a size beyond the storage": tensor(b"(J\xff\xff\xff\x7ft", b"(K\x01t"),
    "a size beyond the storage, repeated": tensor(b"(J\xff\xff\xff\x7ft", b"(K\x00t"),
    "a negative size": tensor(b"(J\xff\xff\xff\xfft", b"(K\x01t"),
    "a negative stride": tensor(b"(K\x02t", b"(J\xff\xff\xff\xfft"),
    "a negative offset": tensor(b"(K\x02t", b"(K\x01t", offset=b"J\xff\xff\xff\xff"),
    "an offset beyond the storage": tensor(b"(K\x02t", b"(K\x01t", offset=b"K\x03"),
    "a stride beyond the storage": tensor(b"(K\x02t", b"(K\x04t"),
    "more strides than sizes": tensor(b"(K\x02t", b"(K\x01K\x01t"),
    "a size that is no number": tensor(b"(NK\x01t", b"(K\x01K\x01t"),
    "a storage of another length": tensor(b"(K\x02t", b"(K\x01t", numel=b"K\x09"),
    "a huge text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "a huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a huge array of bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f.",
    # A pair of a pair of a pair, each twice the same.
    "a key that takes forever to hash": b"\x80\x02}K\x01" + b"q\0h\0\x86" * 60 + b"K\x01s.",
    "instructions without end": b"\x80\x02" + b"]0" * 600_000 + b".",
    "no end": SOUND[:-1],
    "nothing on the stack": b"\x80\x02R.",
    "a state for a number": b"\x80\x02K\x01}b.",
    "an unknown storage": SOUND.replace(b"ctorch\nFloat", b"ctorch\nOther"),
    "a storage of another module": SOUND.replace(b"ctorch\nFloat", b"cother\nFloat"),
    "an instance": b"\x80\x02(ios\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
}


def test_the_hostile_files_differ_from_a_sound_one(tmp_path):
    path = tmp_path / "sound.pth"
    torch_files.write_zip(path, SOUND, {"0": np.arange(4, dtype=np.float32).tobytes()})
    np.testing.assert_array_equal(read_state_dict(str(path))["a"], [[0, 1], [2, 3]])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_end_in_one_sentence(tmp_path, name):
    path = tmp_path / "hostile.pth"
    torch_files.write_zip(path, HOSTILE[name], {"0": np.arange(4, dtype=np.float32).tobytes()})
    with pytest.raises(UserError, match=r"hostile\.pth (is damaged|holds no state)[^\n]*\.$"):
        read_state_dict(str(path))


def test_numbers_in_another_order_are_refused(tmp_path):
    path = tmp_path / "big.pth"
    torch_files.write_zip(path, SOUND, {"0": bytes(16)}, order="big")
    with pytest.raises(UserError, match=r"begin with the highest byte"):
        read_state_dict(str(path))


def test_views_that_promise_more_than_a_gibibyte_are_refused(tmp_path):
    """Every tensor fits its storage; all of them together fill the memory."""
    path, rows = tmp_path / "many.pth", 1 << 22
    one = tensor(
        b"(J" + rows.to_bytes(4, "little") + b"t",
        b"(K\x01t",
        numel=b"J" + rows.to_bytes(4, "little"),
    )
    call = one[len(b"\x80\x02}X\x01\0\0\0a") : -2]
    entries = b"".join(b"X\x02\0\0\0%02d" % number + call for number in range(80))
    program = b"\x80\x02}(" + entries + b"u."
    numbers = io.BytesIO()
    with zipfile.ZipFile(numbers, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("many/data.pkl", program)
        archive.writestr("many/data/0", bytes(4 * rows))
    path.write_bytes(numbers.getvalue())
    with pytest.raises(UserError, match="tensors of more than a gibibyte"):
        read_state_dict(str(path))


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_checkpoints_end_in_one_sentence(tmp_path, legacy):
    path = tmp_path / "broken.pth"
    torch_files.save({"a": np.zeros(1000, np.float32)}, path, legacy=legacy)
    data = path.read_bytes()
    for content in (b"", b"garbage", data[: len(data) // 2], data[:-10], data[:40]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.pth is damaged"):
            weights.read(str(path))
    torch_files.save([np.zeros(3, np.float32)], path, legacy=legacy)
    with pytest.raises(UserError, match="holds no state dict"):
        weights.read(str(path))
    torch_files.save({"a": np.zeros(3, np.float32)}, path, legacy=legacy)
    with pytest.raises(UserError, match="another network"):
        weights.read(str(path))

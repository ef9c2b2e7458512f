"""Small files that promise, or unpack to, more than any memory are refused."""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

from tests.support import damage
from tests.support.corpus import SAMPLES
from tests.support.frozen_graphs import HOSTILE

ROOT = Path(__file__).resolve().parents[1]


def hostile_sizes(folder: Path) -> dict[str, Path]:
    """Write small files that promise, or unpack to, more than any memory; return their readers."""
    zeros = bytes(1 << 20)
    files = {
        "image.png": damage.png(2**31 - 1, 2**31 - 1),
        "wide.png": damage.png(99_999_999, 1, pixels=zeros),
        "image.bmp": b"BM" + b"\0" * 8 + b"\x1a\0\0\0\x0c\0\0\0\xff\xff\xff\xff\x01\0\x18\0",
        "text.png": damage.png(1, 1)[:-12]
        + damage.chunk(b"zTXt", b"a\0\0" + _deflated(200))
        + damage.chunk(b"IEND", b""),
        "net.safetensors": (2**40).to_bytes(8, "little") + b"{}",
        "shape.safetensors": _safetensors({"a": [0, 2**50]}),
        "net.tflite": b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64,
        "net.pb": HOSTILE["a long repeat"],
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with (folder / "sparse.pth").open("wb") as file:
        file.truncate(2**40)
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % 2**44
        content = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header
        for name in ("image", "label", "name", "step"):
            archive.writestr(f"{name}.npy", content)
    if SAMPLES["keras zip"].available():
        with (
            zipfile.ZipFile(folder / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("model.weights.h5", "w", force_zip64=True) as member,
        ):
            for _ in range(1_100):
                member.write(zeros)
    return {path.name: path for path in folder.iterdir()}


def _deflated(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)) + packer.flush()


def _safetensors(tensors: dict[str, list[int]]) -> bytes:
    header = {
        name: {"dtype": "F32", "shape": [ends[1] // 4], "data_offsets": ends}
        for name, ends in tensors.items()
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


BOUNDED = """
    import resource, sys
    from pathlib import Path
    from deeplab_mnv2 import weights
    from deeplab_mnv2.data.decode import read_image
    from deeplab_mnv2.inspection.batch import read_batch
    from deeplab_mnv2.errors import UserError

    READERS = {".npz": read_batch, ".png": read_image, ".bmp": read_image}
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    for name in sys.argv[1:]:
        read = READERS.get(Path(name).suffix, lambda path: weights.read(str(path)))
        try:
            read(Path(name))
        except UserError as error:
            print("refused", error)
"""


def test_promises_of_size_do_not_fill_the_memory(tmp_path):
    """One gibibyte beyond what the program itself takes."""
    files = hostile_sizes(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOUNDED), *map(str, files.values())],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in files:
        assert f"{tmp_path / name}" in done.stdout, f"{name} was not refused"

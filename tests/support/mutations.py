"""Ways to damage the bytes of a file."""

import io
import json
import zipfile
from collections.abc import Callable

import numpy as np

from tests.support import damage

Mutate = Callable[[bytes, np.random.Generator], bytes]
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")
# What a field of a JSON file may turn out to be.
JUNK = (None, True, -1, 0, 10**30, 1e300, float("nan"), "", "x" * 300, "\0", [], [[]], {}, {"a": 1})


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, cut off, overwrite, double or drop a piece; near the start half of the time."""
    if not data:
        return b"\0"
    start = int(rng.integers(min(len(data), 512) if rng.random() < 0.5 else len(data)))
    length = int(rng.integers(1, 1 + min(64, len(data) - start)))
    piece, rest = data[start : start + length], data[start + length :]
    kind = rng.integers(7)
    if kind == 0:
        return damage.flip(data, 8 * start + int(rng.integers(8)))
    if kind == 1:
        for bit in rng.integers(8 * len(data), size=8):
            data = damage.flip(data, int(bit))
        return data
    if kind == 2:
        return data[:start]
    if kind == 3:
        return data[:start] + rng.bytes(length) + rest
    if kind == 4:
        return data[:start] + piece + piece + rest
    if kind == 5:
        return data[:start] + rest
    extreme = EXTREMES[rng.integers(len(EXTREMES))]
    return data[:start] + extreme + data[start + len(extreme) :]


def mutate_png(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage one chunk and give it a right checksum, so that the decoder after it is reached."""
    chunks, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4])
        chunks.append(
            (data[position + 4 : position + 8], data[position + 8 : position + 8 + length])
        )
        position += 12 + length
    chosen = int(rng.integers(len(chunks)))
    kind, content = chunks[chosen]
    chunks[chosen] = kind, mutate_bytes(content, rng)
    return data[:8] + b"".join(damage.chunk(*chunk) for chunk in chunks)


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Put junk in place of a value, or drop it, somewhere in the tree; each line is a tree."""
    lines = data.decode().strip().split("\n") if b"}\n{" in data else [data.decode()]
    chosen = int(rng.integers(len(lines)))
    value = [json.loads(lines[chosen])]
    parent, key = value, 0
    while isinstance(child := parent[key], dict | list) and child and rng.random() < 0.8:
        parent = child
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        key = keys[rng.integers(len(keys))]
    if rng.random() < 0.2:
        del parent[key]
    else:
        parent[key] = JUNK[rng.integers(len(JUNK))]
    lines[chosen] = json.dumps(value[0] if value else {})
    return ("\n".join(lines) + "\n").encode()


def mutate_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage the JSON at the head of a safetensors file and give its right length."""
    length = int.from_bytes(data[:8], "little")
    header = mutate_json(data[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def mutate_member(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage or rename one file of a zip archive and give it a right checksum."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        names = source.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            content = source.read(name)
            if name == chosen and rng.random() < 0.1:
                name = f"../../{name}"
            elif name == chosen:
                content = mutate_bytes(content, rng)
            archive.writestr(name, content)
    return target.getvalue()


def mutate_list(data: bytes, rng: np.random.Generator) -> bytes:
    """Add a hostile line to a list of names."""
    lines = (
        b"../../../etc/passwd",
        b"/etc/passwd SegmentationClass/train_0.png",
        b"JPEGImages/train_0.jpg ../../secret.png",
        b"train_0\0",
        b"\xff\xfe",
        b"x" * 100_000,
        b"JPEGImages/" + b"y" * 5_000 + b" SegmentationClass/train_0.png",
        b"JPEGImages/train_0.jpg \0",
        b". .",
        b"..",
        b"~ ~",
        b"JPEGImages SegmentationClass",
        b"{split} {0}",
        "\N{RIGHT-TO-LEFT OVERRIDE}gnp.0_niart".encode(),
        b"/" * 3_000,
        b'"',
        b'""',
        b'"JPEGImages/train_0.jpg" "',
        b"#" * 3_000,
        b"a," * 3_000,
        b"caf\xe9.jpg|\x85",
        b"._train_0",
        b"\\\\server\\train_0.jpg",
    )
    return data + b"\n" + lines[rng.integers(len(lines))] + b"\n"


def mutate_words(data: bytes, rng: np.random.Generator) -> bytes:
    """Put words of a list, paths and separators together in one more line."""
    words = data.split() or [b"x"]
    folders = (b"", b"/", b"./", b"JPEGImages/", b"SegmentationClass/", b"../", b"\\")
    suffixes = (b"", b".jpg", b".png", b".JPG", b".")
    separators = (b" ", b"\t", b",", b"|", b" , ", b";", b'","', b"\r", b"\x0c", b"#")
    line = b""
    for _ in range(rng.integers(1, 4)):
        parts = folders, words, suffixes, separators
        line += b"".join(choices[rng.integers(len(choices))] for choices in parts)
    quote = b'"' if rng.random() < 0.2 else b""
    return data + b"\n" + quote + line + quote + b"\n"


def mutate_tail(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage the last bytes, where TFLite keeps the structure."""
    return data[:-30_000] + mutate_bytes(data[-30_000:], rng)

"""What a compiled TPU program says of itself, read off its optimised HLO text."""

import dataclasses
import math
import re

_COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
# What moves nothing itself: names for values, and calls of computations that are counted apart.
_STILL = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional"}
# Type, shape, the axes from the innermost on, and where and how it is stored.
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*):?([^}]*)\})?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of HLO text: `type` is that of the result, `operands` are names."""

    name: str
    type: str
    opcode: str
    operands: list[str]
    line: str


def instructions(text: str) -> list[Instruction]:
    """Return what a program runs: each fused operation is one, the body of a loop is there once."""
    called = set(re.findall(r"(?:calls|to_apply)=%([\w.-]+)", text))
    found, exchanges, computation = [], {}, ""
    for line in text.splitlines():
        if (header := re.match(r"(?:ENTRY )?%([\w.-]+) .*\{$", line)) is not None:
            computation = header[1]
        elif parts := re.match(r"\s+(?:ROOT )?%([\w.-]+) = (.+?) ([a-z][\w-]*)\(([^)]*)", line):
            if re.fullmatch(_COLLECTIVES, parts[3]):
                exchanges[computation] = parts[3]
            if computation not in called:
                operands = re.findall(r"%([\w.-]+)", parts[4])
                found.append(Instruction(parts[1], parts[2], parts[3], operands, line))
    return [_unfused(each, exchanges) for each in found]


def _unfused(each: Instruction, exchanges: dict[str, str]) -> Instruction:
    """Return an instruction, as what it is if it is half of a collective.

    libtpu writes some as a pair of fused operations, with others in between that advance it;
    `exchanges` names the collective that a computation holds.
    """
    half = re.match(r"async-collective-(start|done)", each.name)
    body = re.search(r"calls=%([\w.-]+)", each.line)
    if half is None or body is None or body[1] not in exchanges:
        return each
    return dataclasses.replace(each, opcode=f"{exchanges[body[1]]}-{half[1]}")


def collectives(program: list[Instruction]) -> dict[str, tuple[int, int]]:
    """Return the count and the bytes of the results of each kind of collective.

    Of an asynchronous pair the end is counted, whose result is that of the whole.
    """
    found: dict[str, tuple[int, int]] = {}
    for each in program:
        if (kind := re.fullmatch(rf"({_COLLECTIVES})(-done)?", each.opcode)) is not None:
            count, size = found.get(kind[1], (0, 0))
            found[kind[1]] = count + 1, size + _bytes(each.type, stored=False)
    return dict(sorted(found.items()))


def traffic(program: list[Instruction]) -> dict[str, int]:
    """Return the bytes of main memory that each instruction reads and writes, by its name.

    Each reads its operands whole and once, but a slice into fast memory only its part. Arrays count
    as they are stored, padded to tiles; what is kept in the chip's fast memory does not count.
    """
    types = {each.name: each.type for each in program}
    moved = {}
    for each in program:
        if each.opcode in _STILL:
            continue
        # Of an asynchronous pair, the beginning reads and the end writes.
        reads = [] if each.opcode.endswith("-done") else [types[name] for name in each.operands]
        if each.opcode == "slice-start" and "S(" not in reads[0]:
            # Of the type ((whole), part, flag).
            part = list(_ARRAY.finditer(each.type))[1][0]
            reads = [re.sub(r"S\(\d+\)", "", part)]
        writes = [] if each.opcode.endswith("-start") else [each.type]
        moved[each.name] = sum(_bytes(array, stored=True) for array in reads + writes)
    return moved


def cycles(program: list[Instruction]) -> int:
    """Return the compiler's estimate of the cycles of all fused operations and convolutions."""
    found = (re.search(r'"estimated_cycles":"(\d+)"', each.line) for each in program)
    return sum(int(match[1]) for match in found if match is not None)


def _bytes(types: str, *, stored: bool) -> int:
    """Return the bytes of a type such as `(f32[8,3]{1,0:T(8,128)}, bf16[96]{0:T(256)S(1)})`.

    With `stored`, those in main memory, where sides are multiples of the tile's.
    """
    total = 0
    for name, sides, order, place in _ARRAY.findall(types):
        if stored and "S(" in place:
            continue
        shape = [int(side) for side in sides.split(",") if side]
        if stored and (tile := re.match(r"T\(([\d,]+)\)", place)) is not None:
            minor = [int(axis) for axis in order.split(",") if axis]
            for axis, side in zip(minor, reversed(tile[1].split(",")), strict=False):
                shape[axis] = -(-shape[axis] // int(side)) * int(side)
        # Names end in their bits: bf16, s32; pred has 8.
        bits = re.search(r"\d+", name)
        total += math.prod(shape) * (int(bits[0]) if bits else 8) // 8
    return total

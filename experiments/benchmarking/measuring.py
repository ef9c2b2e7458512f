"""Programs timed in turns, and the rows of the table made from their times."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.costs import layer_costs
from experiments.benchmarking import data
from experiments.benchmarking.case import Case

# Where each program is built; its module is imported only when asked for, since peers are extras.
_PROGRAMS = {
    "ours": "jax_programs:ours",
    "plain": "jax_programs:plain",
    "torch_eager": "torch_programs:eager",
    "torch_compile": "torch_programs:compiled",
    "transformers": "torch_programs:hugging_face",
    "onnxruntime": "runtimes:onnxruntime",
    "litert": "runtimes:litert",
}
PEERS = tuple(name for name in _PROGRAMS if name != "ours")
# They run inference only, one image at a time.
RUNTIMES = ("onnxruntime", "litert")

# Seconds of rest before each program's turn, and then of its own work before it is timed.
_PAUSE = 0.2

Iteration = Callable[[], Any]


def measure(programs: dict[str, Iteration], rounds: int) -> dict[str, np.ndarray]:
    """Return (rounds, 2) milliseconds of each program: by the clock, and of processor time.

    The programs run in turns. The threads of ONNX Runtime and OpenMP keep spinning for a while
    after their work and would slow down the next program. So before each timing there is a pause,
    and then the program runs untimed until its own threads are awake. Processor time is that of
    all threads. When other jobs run on the machine it varies less than the clock, but it counts a
    thread that waits in a loop as busy.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            time.sleep(_PAUSE)
            awake = time.perf_counter() + _PAUSE
            while time.perf_counter() < awake:
                program()
            began, busy = time.perf_counter(), time.process_time()
            program()
            spent = time.perf_counter() - began, time.process_time() - busy
            times[name].append((1e3 * spent[0], 1e3 * spent[1]))
    return {name: np.array(values) for name, values in times.items()}


def run_case(case: Case, peers: list[str], rounds: int, ceilings: dict[str, float]) -> dict:
    """Return the row of a forward or training case."""
    model = case.model()
    began = time.perf_counter()
    ours = build("ours", case, model)
    seconds = time.perf_counter() - began
    programs: dict[str, Iteration] = {"ours": ours}
    for peer in peers:
        if peer not in RUNTIMES or (case.kind == "forward" and case.batch_size == 1):
            programs[peer] = build(peer, case, case.model())
    # The first call compiles what is compiled lazily; its outputs show that the peers agree.
    outputs = {name: _on_host(program()) for name, program in programs.items()}
    for program in programs.values():
        program()
    row = _row(case.name, measure(programs, rounds))
    if case.kind == "forward":
        row["difference"] = {
            name: _difference(output, outputs["ours"])
            for name, output in outputs.items()
            if name not in ("ours", "transformers")
        }
    costs = layer_costs(model, (case.size, case.size))
    work = case.batch_size * sum(cost.multiply_adds for cost in costs)
    # A gradient step has three products: forward, and the gradients of kernels and activations.
    work *= 3 if case.kind == "train" else 1
    row |= {
        "images_per_second": 1e3 * case.batch_size / row["ours_ms"],
        "multiply_adds": work,
        "bytes_moved": ours.bytes_moved,
        "share_of_matrix_product": 2 * work / row["ours_ms"] * 1e3 / ceilings["flops"],
        "share_of_copy": ours.bytes_moved / row["ours_ms"] * 1e3 / ceilings["bytes"],
        "compile_seconds": seconds,
    }
    return row


def run_data(case: Case, peers: list[str], folder: str, images: int, rounds: int) -> dict:
    """Return the row of `eval` (ms of a pass) or `input` (ms of processor time an image)."""
    if case.kind == "eval":
        programs: dict[str, Iteration] = {"ours": data.our_evaluation(case, folder, images)}
        if "litert" in peers:
            programs["litert"] = data.litert_evaluation(case, folder, images)
        for program in programs.values():
            program()
        return _row(case.name, measure(programs, rounds))
    programs = {"ours": data.our_input(folder), "torch_dataloader": data.torch_input(folder)}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            times[name].append((1e3 * program(),) * 2)
    row = _row(case.name, {name: np.array(values) for name, values in times.items()})
    row["images_per_second"] = 1e3 / row["ours_ms"]
    return row


def ceilings() -> dict[str, float]:
    """Measure bytes/s of a copy and float operations/s of a matrix product, the best of ten."""
    copied = jnp.ones(2**26, jnp.float32)
    square = jnp.ones((2048, 2048), jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    product = jax.jit(lambda x: x @ x)
    times = {}
    for name, function, value in (("bytes", copy, copied), ("flops", product, square)):
        jax.block_until_ready(function(value))
        ours = measure({name: lambda f=function, v=value: jax.block_until_ready(f(v))}, 10)
        times[name] = ours[name][:, 0].min() / 1e3
    return {"bytes": 2 * copied.nbytes / times["bytes"], "flops": 2 * 2048**3 / times["flops"]}


def _on_host(output: Any) -> list[np.ndarray]:
    """Return a program's output, or its outputs, on the host."""
    # Not inside the timed program: the copy is no part of it. NumPy cannot read a GPU's tensor.
    outputs = output if isinstance(output, tuple) else (output,)
    return [np.asarray(one.cpu() if hasattr(one, "cpu") else one) for one in outputs]


def _difference(found: list[np.ndarray], ours: list[np.ndarray]) -> float:
    """Return the largest difference relative to the largest value, of all outputs."""
    pairs = zip(found, ours, strict=True)
    return max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)


def build(program: str, case: Case, model: Any) -> Any:
    """Return a program ("ours" or one of `PEERS`) for a forward or training case; a call runs it.

    Raises:
        UserError: what the program needs is not installed.
    """
    module, function = _PROGRAMS[program].split(":")
    try:
        peer = importlib.import_module(f"experiments.benchmarking.{module}")
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed; pip install 'deeplab_mnv2[peers]' or name --peers."
        ) from error
    return getattr(peer, function)(case, model)


def _row(name: str, times: dict[str, np.ndarray]) -> dict[str, Any]:
    processor = {key: float(np.median(values[:, 1])) for key, values in times.items()}
    times = {key: values[:, 0] for key, values in times.items()}
    medians = {key: float(np.median(values)) for key, values in times.items()}
    quartiles = {key: np.percentile(values, (25, 75)) for key, values in times.items()}
    ours = medians.pop("ours")
    return {
        "case": name,
        "ours_ms": ours,
        "peers_ms": medians,
        "ratio": {key: value / ours for key, value in medians.items()},
        "spread_ms": {key: float(high - low) for key, (low, high) in quartiles.items()},
        "fastest_ms": {key: float(values.min()) for key, values in times.items()},
        "processor_ms": processor,
        "rounds": len(next(iter(times.values()))),
    }

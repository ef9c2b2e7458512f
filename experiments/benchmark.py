"""How fast: this network, the same one in plain JAX, in PyTorch and in inference runtimes.

    python experiments/benchmark.py --json benchmark.json
    python experiments/benchmark.py --cases train_513_b4,forward_513_b1_os8 --peers torch_compile
    python experiments/benchmark.py --cases train_513_b16_bf16 --peers plain,torch_compile
    python experiments/benchmark.py --cases eval,input --voc VOC2012
    python experiments/benchmark.py --cases '' --plot scaling.png

All peers run in one process, in turns, so that whatever else the machine does hits all alike; the
table gives medians and the distance of the quartiles. Forward passes take grey levels to logits
at the image's size and are compared with ours first. A training step is loss, gradients and
update. Keras' MobileNetV2 is left out: it has no dilation and no segmentation head, so its times
would be of another network. Peers need `pip install -e ".[peers]"`.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from deeplab_mnv2.cli import command
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.costs import layer_costs
from experiments.benchmark_case import Case, parse

PEERS = {
    "plain": "benchmark_jax:plain",
    "torch_eager": "benchmark_torch:eager",
    "torch_compile": "benchmark_torch:compiled",
    "transformers": "benchmark_torch:hugging_face",
    "onnxruntime": "benchmark_runtimes:onnxruntime",
    "litert": "benchmark_runtimes:litert",
}
_RUNTIMES = ("onnxruntime", "litert")
_PACKAGES = ("jax", "flax", "torch", "transformers", "onnxruntime", "ai-edge-litert")

# Seconds without work before each program's turn, and of its own work that is not timed.
_PAUSE = 0.2

Iteration = Callable[[], Any]


def measure(programs: dict[str, Iteration], rounds: int) -> dict[str, np.ndarray]:
    """Return (rounds, 2) milliseconds of each program, by the clock and of processor time.

    The programs run in turns. Threads of ONNX Runtime and OpenMP go on spinning for a while when
    their work is done, at the cost of whoever comes next: hence a pause before each turn, and runs
    that are not timed until its own threads are awake. Processor time is that of all threads;
    beside other jobs it is the steadier of the two, but it counts a thread that waits in a loop as
    busy.
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
    ours = _build("benchmark_jax:ours", case, model)
    seconds = time.perf_counter() - began
    programs: dict[str, Iteration] = {"ours": ours}
    for peer in peers:
        if peer not in _RUNTIMES or (case.kind == "forward" and case.batch_size == 1):
            programs[peer] = _build(PEERS[peer], case, case.model())
    # Compiles what is compiled late, and shows that the peers compute the same.
    outputs = {name: _on_host(program()) for name, program in programs.items()}
    for program in programs.values():
        program()
    row = _row(case.name, measure(programs, rounds))
    if case.kind == "forward":
        row["difference"] = {
            name: float(np.abs(output - outputs["ours"]).max() / np.abs(outputs["ours"]).max())
            for name, output in outputs.items()
            if name not in ("ours", "transformers")
        }
    costs = layer_costs(model, (case.size, case.size))
    work = case.batch_size * sum(cost.multiply_adds for cost in costs)
    # A gradient step multiplies thrice: forward, by the kernels and by the activations.
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
    from experiments import benchmark_data as data  # noqa: PLC0415

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


def peak_memory(case: Case, peers: list[str]) -> dict[str, float]:
    """Return the largest resident memory in MB of one step, each in a process of its own."""
    peaks = {}
    for name in ("ours", *(peer for peer in peers if peer not in _RUNTIMES)):
        command = [sys.executable, __file__, f"--cases={case.name}", f"--only={name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = float(done.stdout.split()[-1])
    return peaks


def _on_host(output: Any) -> np.ndarray:
    # Copied here, not where it is timed: PyTorch's tensors know how, others come by themselves.
    return np.asarray(output.cpu() if hasattr(output, "cpu") else output)


def _only(case: Case, peer: str) -> None:
    program = _build(PEERS.get(peer, "benchmark_jax:ours"), case, case.model())
    for _ in range(2):
        program()
    # Not getrusage: a process inherits that peak from the one that started it.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def _build(target: str, case: Case, model: Any) -> Any:
    module, function = target.split(":")
    try:
        peer = importlib.import_module(f"experiments.{module}")
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


def versions() -> dict[str, str]:
    """Return the versions of Python and of what is installed of the peers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> str:
    """Return the accelerator's name, or the processor's with the number of cores."""
    kind = jax.devices()[0].device_kind
    if jax.default_backend() != "cpu":
        return kind
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print one line a case and program."""
    columns = "median ms", "quartiles apart", "fastest", "times ours", "processor ms"
    table = Table("case", "program", *columns)
    for row in rows:
        for name, median in {"ours": row["ours_ms"], **row["peers_ms"]}.items():
            table.add_row(
                row["case"] if name == "ours" else "",
                name,
                f"{median:.1f}",
                f"{row['spread_ms'][name]:.1f}",
                f"{row['fastest_ms'][name]:.1f}",
                f"{median / row['ours_ms']:.2f}",
                f"{row['processor_ms'][name]:.1f}",
            )
        table.add_section()
    console.print(table)
    for row in rows:
        if "multiply_adds" in row:
            console.print(
                f"{row['case']}: {row['images_per_second']:.1f} images/s, "
                f"{row['multiply_adds'] / 1e9:.2f} G multiply-adds "
                f"({row['share_of_matrix_product']:.0%} of the matrix product), "
                f"{row['bytes_moved'] / 1e9:.2f} GB moved ({row['share_of_copy']:.0%} of the "
                f"copy), compiled in {row['compile_seconds']:.1f} s"
                + "".join(f", {k} peak {v:.0f} MB" for k, v in row.get("peak_mb", {}).items())
            )


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    cases = [parse(name) for name in given.cases if name]
    peers = [name for name in given.peers if name]
    if unknown := [name for name in peers if name not in PEERS]:
        raise UserError(f"There is no peer {unknown[0]!r}; peers are {', '.join(PEERS)}.")
    if given.only:
        _only(cases[0], given.only)
        return
    if not given.voc and any(case.kind in ("eval", "input") for case in cases):
        raise UserError("The cases eval and input need --voc FOLDER, a folder in VOC's layout.")
    if given.memory and jax.default_backend() != "cpu":
        raise UserError("--memory reads the host's memory; leave it out on an accelerator.")
    console = Console()
    limits = ceilings()
    console.print(
        f"{device()}; {versions()}; copy {limits['bytes'] / 1e9:.1f} GB/s, matrix product "
        f"{limits['flops'] / 1e9:.0f} GFLOP/s"
    )
    rows = []
    for case in cases:
        if case.kind in ("eval", "input"):
            row = run_data(case, peers, given.voc, given.eval_images, min(given.rounds, 3))
        else:
            row = run_case(case, peers, given.rounds, limits)
            if given.memory:
                row["peak_mb"] = peak_memory(case, peers)
        rows.append(row)
        show(console, [row])
    result = {"device": device(), "versions": versions(), "ceilings": limits, "cases": rows}
    if given.json:
        Path(given.json).write_text(json.dumps(result, indent=2) + "\n")
    if given.plot:
        from experiments.benchmark_plot import plot  # noqa: PLC0415

        plot(Path(given.plot), peers, given.rounds, limits, device())


if __name__ == "__main__":
    flags.DEFINE_list("cases", ["forward_513_b1", "train_257_b4"], "KIND_SIZE_bBATCH[_os8], ...")
    flags.DEFINE_list("peers", list(PEERS), "Whom to compare with.")
    flags.DEFINE_integer("rounds", 15, "Rounds, each of which runs every program once.")
    flags.DEFINE_string("json", "", "Write the measurements to this file.")
    flags.DEFINE_string("voc", "", "VOC folder for the cases eval and input.")
    flags.DEFINE_integer("eval_images", 0, "Evaluate the first images only; 0: all.")
    flags.DEFINE_bool("memory", False, "Also measure each program's peak memory, by itself.")
    flags.DEFINE_string("plot", "", "Draw time against batch, size, width and stride.")
    flags.DEFINE_string("only", "", "Run one program twice and print its peak memory.")
    command.run(main)

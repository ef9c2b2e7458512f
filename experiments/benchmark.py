"""Measure speed: this network, the same one in plain JAX, in PyTorch and in inference runtimes.

    python experiments/benchmark.py --json benchmark.json
    python experiments/benchmark.py --cases train_513_b4,forward_513_b1_os8 --peers torch_compile
    python experiments/benchmark.py --cases train_513_b16_bf16 --peers plain,torch_compile
    python experiments/benchmark.py --cases eval,input --voc VOC2012
    python experiments/benchmark.py --cases '' --plot scaling.png

All programs run in one process, in turns, so that other load on the machine affects all of them
alike. The table gives medians and the distance between the quartiles. A forward pass turns grey
levels into logits at the image's size; before timing, its output is compared with ours. A training
step is loss, gradients and update. Keras' MobileNetV2 is left out: it has neither dilation nor a
segmentation head, so its times would be those of another network. Peers need
`pip install -e ".[peers]"`.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags
from rich.console import Console
from rich.table import Table

from deeplab_mnv2.cli import command
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.protocol import machine
from experiments.benchmarking.case import Case, parse
from experiments.benchmarking.measuring import (
    PEERS,
    RUNTIMES,
    build,
    ceilings,
    run_case,
    run_data,
)

_PACKAGES = ("jax", "flax", "torch", "transformers", "onnxruntime", "ai-edge-litert")


def peak_memory(case: Case, peers: list[str]) -> dict[str, float]:
    """Return the peak resident memory in MB of one step, each program in its own process."""
    peaks = {}
    for name in ("ours", *(peer for peer in peers if peer not in RUNTIMES)):
        command = [sys.executable, __file__, f"--cases={case.name}", f"--only={name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = float(done.stdout.split()[-1])
    return peaks


def _only(case: Case, program: str) -> None:
    """Run one program twice and print the peak memory of this process in MB."""
    run = build(program, case, case.model())
    for _ in range(2):
        run()
    # Not getrusage: its peak includes that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed peers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> str:
    """Return the accelerator's name, or the processor's with its widest vectors and its cores."""
    found = machine()
    if jax.default_backend() != "cpu":
        return found["device"]
    parts = found["processor"], *found["vectors"][-1:], f"{os.cpu_count()} cores"
    return ", ".join(parts)


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print one line for each case and program."""
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
                + "".join(f", {k} peak {v:.0f} MB" for k, v in row["peak_mb"].items())
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
    # A program from the cache would be ready at once, and its compiling is part of the table.
    jax.config.update("jax_enable_compilation_cache", False)
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
            # Before the times: afterwards this process keeps the memory of all its programs.
            peaks = peak_memory(case, peers) if given.memory else {}
            row = run_case(case, peers, given.rounds, limits) | {"peak_mb": peaks}
        rows.append(row)
        show(console, [row])
    result = {"device": device(), "versions": versions(), "ceilings": limits, "cases": rows}
    if given.json:
        Path(given.json).write_text(json.dumps(result, indent=2) + "\n")
    if given.plot:
        # Matplotlib is an extra.
        from experiments.benchmarking.plot import plot  # noqa: PLC0415

        plot(Path(given.plot), peers, given.rounds, limits, device())


if __name__ == "__main__":
    flags.DEFINE_list("cases", ["forward_513_b1", "train_257_b4"], "KIND_SIZE_bBATCH[_os8], ...")
    flags.DEFINE_list("peers", list(PEERS), "Programs to compare with.")
    flags.DEFINE_integer("rounds", 15, "Rounds; each runs every program once.")
    flags.DEFINE_string("json", "", "Write the measurements to this file.")
    flags.DEFINE_string("voc", "", "Folder in VOC's layout, for the cases eval and input.")
    flags.DEFINE_integer("eval_images", 0, "Evaluate only this many images; 0: all.")
    flags.DEFINE_bool(
        "memory", False, "Also measure the peak memory of each program, in its own process."
    )
    flags.DEFINE_string("plot", "", "Draw time against batch, size, width and stride.")
    flags.DEFINE_string("only", "", "Run one program twice and print its peak memory.")
    command.run(main)

"""What every command shares: flags from the config, one plain sentence on a mistake."""

import dataclasses
import difflib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from deeplab_mnv2.cli import interrupt
from deeplab_mnv2.cli.malloc import keep_freed_memory
from deeplab_mnv2.config import Config
from deeplab_mnv2.errors import Stopped, UserError

QUICKSTART = Path(__file__).resolve().parents[2] / "experiments" / "quickstart.py"


def define_config() -> None:
    """Define `--config FILE[:ARG]` and, for each of its fields, `--config.a.b=value`."""
    # No default here: a default is loaded at once, outside of `run`, where mistakes are told.
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Experiment file, with an argument after a colon; fields as --config.train.total_steps=9.",
    )
    flags.DEFINE_bool("distributed", False, "Call jax.distributed.initialize(): one of several.")


def define_weights() -> None:
    """Define `--weights`; and `--workdir` with `--checkpoint`, which named runs before it did."""
    flags.DEFINE_string("weights", "", "File, RUN, RUN@best, RUN@400, folder or hf://owner/name.")
    flags.DEFINE_string("workdir", "", "A run; --weights RUN says the same.")
    flags.DEFINE_string("checkpoint", "", "Of --workdir; --weights RUN@best says the same.")


def weights_source(default: str) -> str:
    """Return what `--weights` names, or `default`; `--workdir` and `--checkpoint` count too.

    Raises:
        UserError: both name something, or a checkpoint is of nothing.
    """
    given = flags.FLAGS
    if given.workdir and given.weights:
        raise UserError("Give either --weights or --workdir, not both: --weights takes a run too.")
    if given.checkpoint and not given.workdir:
        raise UserError(
            f"--checkpoint {given.checkpoint} is of no run; write --weights RUN@{given.checkpoint}."
        )
    if given.workdir:
        return f"{given.workdir}@{given.checkpoint or 'newest'}"
    return given.weights or default


def overridden() -> set[str]:
    """Return the names of the config fields given on the command line."""
    return set(config_flags.get_override_values(flags.FLAGS["config"]))


def experiment_name() -> str:
    """Return the name of the experiment file that `--config` gives."""
    return Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem


def numbers(flag: str, texts: list[str]) -> tuple[float, ...]:
    """Return the numbers of a list flag.

    Raises:
        UserError: one of them is no number above zero.
    """
    try:
        values = tuple(float(text) for text in texts)
    except ValueError as error:
        raise UserError(f"--{flag} takes numbers, not {','.join(texts)!r}.") from error
    if min(values) <= 0:
        raise UserError(f"--{flag} takes numbers above 0, not {min(values)}.")
    return values


def require_writable(folder: Path, flag: str) -> None:
    """Make the folder, before long work whose results go there.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written ({error.strerror}); choose another {flag}."
        ) from error


def run(
    main: Callable[[], None], *, takes_arguments: bool = False, default_config: Path | None = None
) -> None:
    """Parse the flags, run `main` and exit 0; a mistake ends in one sentence and status 2.

    `takes_arguments` is for commands that read what stands beside the flags, `default_config` is
    the experiment of those that need not be given one.
    Ctrl-C ends with status 130. Compiled programs are kept in `~/.cache/deeplab_mnv2`, or in
    `JAX_COMPILATION_CACHE_DIR`, so that a second start does not compile again.
    """
    flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
    for name in {"config", "distributed", "debug", "weights"} & set(flags.FLAGS):
        # `--help` shows the flags of the command's own file, and these.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    logging.set_verbosity(logging.ERROR)
    debug = "--debug" in sys.argv
    try:
        with nullcontext() if debug else interrupt.quiet():
            app.run(
                lambda argv: _start(main, [] if takes_arguments else argv),
                flags_parser=partial(_parse, default_config),
            )
    except UserError as error:
        if debug:
            raise
        sys.exit(_fail(str(error)))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)


def _start(main: Callable[[], None], argv: list[str]) -> None:
    if argv[1:]:
        raise UserError(f"The command takes flags only, not {argv[1]!r}; see --help.")
    keep_freed_memory()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(cache / "deeplab_mnv2"))
    if "distributed" in flags.FLAGS and flags.FLAGS.distributed:
        jax.distributed.initialize()
    main()


def _parse(default_config: Path | None, argv: list[str]) -> list[str]:
    asks = any(a in ("--help", "-help", "-h", "--helpfull", "--helpshort", "-?") for a in argv)
    given = any(a.split("=")[0] in ("--config", "-config") for a in argv)
    if "config" in flags.FLAGS and not given:
        if default_config is not None:
            argv = [argv[0], f"--config={default_config}", *argv[1:]]
        elif not asks:
            raise UserError("Give --config FILE, the experiment that names the data to look at.")
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        names = [f"--{name}" for name in flags.FLAGS]
        raise UserError(
            f"There is no flag --{error.flagname}{_near(error.flagname, names)}"
        ) from error
    except (KeyError, AttributeError) as error:
        raise _unknown_field(argv, error) from error
    except (flags.Error, ValueError, TypeError) as error:
        raise UserError(f"{str(error).splitlines()[0].removeprefix('flag ')}.") from error
    if "config" in flags.FLAGS:
        _check_loaded()
    return rest


def _check_loaded() -> None:
    """Raise what went wrong with the experiment file, which absl leaves until its first use."""
    path = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0])
    if not path.is_file():
        raise UserError(f"The experiment file {path} does not exist; see experiments/.")
    if not isinstance(flags.FLAGS.config, Config):
        raise UserError(f"get_config() in {path} must return a deeplab_mnv2.config.Config.")


def _unknown_field(argv: list[str], error: Exception) -> UserError:
    fields = list(_fields(Config))
    for argument in argv:
        match = re.match(r"--config\.([\w.\[\]]+)", argument)
        # Below data sets and update rules the fields depend on which one the experiment names.
        if match and match[1] not in fields:
            # A field's own group is no correction of it.
            others = [f for f in fields if not match[1].startswith(f"{f}.")]
            near = _near(match[1], others, likeness=0.75)
            if near != "." or match[1].split(".")[-1] in str(error):
                return UserError(f"There is no config field {match[1]!r}{near}")
    return UserError(f"{str(error)[:300]}.")


def _fields(cls: type, prefix: str = "") -> list[str]:
    names = []
    for field in dataclasses.fields(cls):
        names.append(prefix + field.name)
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            names += _fields(field.type, f"{prefix}{field.name}.")
    return names


def _near(name: str, names: list[str], likeness: float = 0.5) -> str:
    near = difflib.get_close_matches(
        name.removeprefix("--"), [n.removeprefix("--") for n in names], 1, likeness
    )
    return f"; did you mean {near[0]!r}?" if near else "."


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2

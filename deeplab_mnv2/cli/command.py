"""What every command shares: flags from the config, one plain sentence on a mistake."""

import copy
import dataclasses
import difflib
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import jax
from absl import app, flags, logging
from ml_collections import config_flags

from deeplab_mnv2.cli import experiment, interrupt
from deeplab_mnv2.cli.compilation_cache import keep_compiled_programs
from deeplab_mnv2.cli.malloc import keep_freed_memory
from deeplab_mnv2.config import Config
from deeplab_mnv2.errors import Stopped, UserError

# The experiment of commands that need not be given one.
QUICKSTART = "quickstart"

_HELP = {"help", "h", "helpfull", "helpshort", "?"}
_page = Path(QUICKSTART)
_is_given = False


def define_config() -> None:
    """Define `--config FILE[:ARG]` and, for each of its fields, `--config.a.b=value`."""
    flags.DEFINE_string(
        "config",
        None,
        "Experiment: a file, or the name of a page that comes with the package, with an argument "
        "after a colon; fields as --config.train.total_steps=9.",
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
    return _page.stem


def is_experiment_given() -> bool:
    """Return whether `--config` or one of its fields is on the command line."""
    return _is_given


def overridden_copy(config: Config, arguments: list[str]) -> Config:
    """Return a copy of a config with other fields, given as on the command line.

    Raises:
        UserError: there is no such field or value.
    """
    values = flags.FlagValues()
    rest = _define_fields(copy.deepcopy(config), arguments, values)
    with _plainly():
        values(["", *rest])
    return values.config


def numbers(flag: str, texts: list[str]) -> tuple[float, ...]:
    """Return the numbers of a list flag.

    Raises:
        UserError: there is none, or one of them is no number above 0 and up to 10.
    """
    try:
        values = tuple(float(text) for text in texts)
    except ValueError as error:
        raise UserError(f"--{flag} takes numbers, not {','.join(texts)!r}.") from error
    # More than a hundred times the pixels is a slip, and fills the memory.
    for value in values or (math.nan,):
        if not 0 < value <= 10:
            raise UserError(f"--{flag} takes numbers above 0 and up to 10, not {value:g}.")
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
    main: Callable[..., None], *, takes_arguments: bool = False, default_config: str = ""
) -> None:
    """Parse the flags, run `main` and exit 0; a mistake ends in one sentence and status 2.

    With `takes_arguments`, `main` gets what stands beside the flags; `default_config` is the
    experiment of commands that need not be given one. Ctrl-C ends with status 130. Compiled
    programs are kept, see `compilation_cache`.
    """
    flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
    for name in {"config", "distributed", "debug", "weights"} & set(flags.FLAGS):
        # `--help` shows the flags of the command's own file, and these.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    logging.set_verbosity(logging.ERROR)
    names = {argument.lstrip("-") for argument in sys.argv[1:] if argument.startswith("-")}
    if names & _HELP:
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    debug = "debug" in names
    try:
        with nullcontext() if debug else interrupt.quiet():
            arguments = _parse(sys.argv, default_config)[1:]
            _start()
            if takes_arguments:
                main(arguments)
            elif arguments:
                raise UserError(f"The command takes flags only, not {arguments[0]!r}; see --help.")
            else:
                main()
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)


def _start() -> None:
    """Set up the process; a program that only imports the package is left as it is."""
    keep_freed_memory()
    # One thread a call: the pipeline already runs examples side by side.
    cv2.setNumThreads(1)
    keep_compiled_programs()
    if "distributed" in flags.FLAGS and flags.FLAGS.distributed:
        jax.distributed.initialize()


def _parse(argv: list[str], default_config: str) -> list[str]:
    """Parse the flags, load the experiment, and return the command and what is left over."""
    if "config" in flags.FLAGS:
        argv = _load_experiment(argv, default_config)
    with _plainly():
        return flags.FLAGS(argv)


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn what is wrong with flags into one sentence."""
    try:
        yield
    except flags.UnrecognizedFlagError as error:
        names = [f"--{name}" for name in flags.FLAGS]
        raise UserError(
            f"There is no flag --{error.flagname}{_near(error.flagname, names)}"
        ) from error
    except (flags.Error, ValueError, TypeError) as error:
        raise UserError(f"{str(error).splitlines()[0].removeprefix('flag ')}.") from error


def _load_experiment(argv: list[str], default_config: str) -> list[str]:
    """Replace the flag `--config FILE` by those of the config's fields; return the other flags."""
    global _page, _is_given
    reference, rest = default_config, []
    waiting = iter(argv)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        _is_given |= name.lstrip("-").partition(".")[0] == "config"
        if name in ("--config", "-config"):
            reference = value if equals else next(waiting, "")
        else:
            rest.append(argument)
    if not reference:
        raise UserError("Give --config FILE, the experiment that names the data to look at.")
    _page, config = experiment.load(reference)
    delattr(flags.FLAGS, "config")
    return _define_fields(config, rest, flags.FLAGS)


def _define_fields(config: Config, argv: list[str], values: flags.FlagValues) -> list[str]:
    """Define a flag for each field of a config that is given; return what is left to parse."""
    rest = experiment.choose_objects(config, argv, "config")
    with _plainly():
        try:
            config_flags.DEFINE_config_dataclass(
                "config", config, flag_values=values, sys_argv=rest
            )
        except (KeyError, AttributeError) as error:
            raise _unknown_field(rest, error) from error
    return rest


def _unknown_field(argv: list[str], error: Exception) -> UserError:
    fields = list(_fields(Config))
    for argument in argv:
        match = re.match(r"--config\.([\w.\[\]]+)", argument)
        # Below data sets and update rules the fields depend on which one the experiment names.
        if match and match[1] not in fields:
            # A field's own group is no correction of it.
            others = [f for f in fields if not match[1].startswith(f"{f}.")]
            near = _abbreviated(match[1], others) or _near(match[1], others, likeness=0.75)
            if near != "." or match[1].split(".")[-1] in str(error):
                return UserError(f"There is no config field {match[1]!r}{near}")
    return UserError(f"{str(error)[:300]}.")


def _abbreviated(name: str, fields: list[str]) -> str:
    """Return the one field that a name has the initials of, as `lr` is of learning_rate, or ""."""
    short = name.rpartition(".")[2]
    found = [
        field
        for field in fields
        if "".join(word[:1] for word in field.rpartition(".")[2].split("_")) == short
    ]
    return f"; did you mean {found[0]!r}?" if len(found) == 1 and len(short) > 1 else ""


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

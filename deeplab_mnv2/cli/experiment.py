"""Experiment pages: found by path or by name, loaded, and asked for their `Config`."""

import dataclasses
import difflib
import importlib.util
import sys
import traceback
import types
import typing
from pathlib import Path
from typing import Any

from deeplab_mnv2.config import Config
from deeplab_mnv2.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout the pages are beside the package, in an installed wheel inside it.
PAGES = next(
    (
        folder
        for folder in (_PACKAGE / "experiments", _PACKAGE.parent / "experiments")
        if folder.is_dir()
    ),
    _PACKAGE / "experiments",
)


def load(reference: str) -> tuple[Path, Config]:
    """Return the file of a page and the config that it gives.

    `reference` is a file, or the name of a page that comes with the package, each with an argument
    after a colon where the page takes one: `experiments/voc_os16.py:VOC2012`, `voc_os16:VOC2012`.
    A page can import the modules beside it and the package's pages, and reader processes can import
    its classes.

    Raises:
        UserError: there is no such page, it has a mistake, or it does not give a `Config`.
    """
    name, _, argument = reference.partition(":")
    path = _find(name)
    try:
        module = _import(path)
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise UserError(f"{path} has no function get_config(); add one that returns a Config.")
        config = get_config(argument) if argument else get_config()
    except UserError as error:
        raise _with_place(path, error) from error
    except Exception as error:
        # Whatever a page does wrong is reported the same way.
        kind = type(error).__name__
        message = f"{kind}: {str(error).strip().splitlines()[0]}" if str(error).strip() else kind
        raise UserError(f"{_place(path, error)}: {message}; correct it.") from error
    if not isinstance(config, Config):
        raise UserError(
            f"get_config() in {path} returns {type(config).__name__}; it must return a "
            "deeplab_mnv2.config.Config."
        )
    return path, config


def choose_objects(config: Config, arguments: list[str], flag: str) -> list[str]:
    """Set fields that hold one of several classes, and return the arguments that are left.

    `--config.optimizer.rule=AdamW` puts an `AdamW()` there, upper and lower case alike.

    Raises:
        UserError: the class is none of those, or cannot be made without settings of its own.
    """
    left: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.lstrip("-").partition("=")
        found = _choices(config, name.removeprefix(f"{flag}."))
        if not argument.startswith("-") or not name.startswith(f"{flag}.") or found is None:
            left.append(argument)
            continue
        section, field, classes = found
        value = value if equals else next(waiting, "")
        chosen = [cls for cls in classes if cls.__name__.lower() == value.lower().rstrip("()")]
        if not chosen:
            names = ", ".join(cls.__name__ for cls in classes)
            raise UserError(f"--{name} takes one of {names}, not {value!r}.")
        try:
            setattr(section, field, chosen[0]())
        except TypeError as error:
            raise UserError(
                f"{chosen[0].__name__} needs settings of its own; set it in an experiment file."
            ) from error
    return left


def _choices(config: Config, field_path: str) -> tuple[Any, str, list[type]] | None:
    """Return section, name and classes of a field that holds one of several dataclasses."""
    *above, field = field_path.split(".")
    section: Any = config
    for name in above:
        section = getattr(section, name, None)
    if not dataclasses.is_dataclass(section) or isinstance(section, type):
        return None
    hint = typing.get_type_hints(type(section)).get(field)
    if not isinstance(hint, types.UnionType):
        return None
    classes = [
        c for c in typing.get_args(hint) if isinstance(c, type) and dataclasses.is_dataclass(c)
    ]
    return (section, field, classes) if classes else None


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix != ".py" and path.name == name and (PAGES / f"{name}.py").is_file():
        return PAGES / f"{name}.py"
    texts = {page.stem: page.read_text() for page in sorted(PAGES.glob("*.py"))}
    pages = [name for name, text in texts.items() if "\ndef get_config" in text]
    near = difflib.get_close_matches(path.stem, pages, 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else f"the package has {', '.join(pages)}."
    raise UserError(f"The experiment file {name} does not exist; {hint}")


def _import(path: Path) -> types.ModuleType:
    """Run a page as a module of its own name, so that reader processes can import its classes."""
    name = path.stem
    for folder in (str(path.resolve().parent), str(PAGES)):
        if folder not in sys.path:
            # Last: a page that is named like a library must not hide it.
            sys.path.append(folder)
    found = importlib.util.find_spec(name)
    if found is not None and (found.origin is None or Path(found.origin) != path.resolve()):
        # A library has that name, which reader processes would import instead.
        name = f"{name}_page"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file; give an experiment file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _with_place(path: Path, error: UserError) -> UserError:
    """Return the error with the line of the page that caused it, unless it names the page."""
    place = _place(path, error)
    return (
        error if str(path) in str(error) or place == str(path) else UserError(f"{place}: {error}")
    )


def _place(path: Path, error: BaseException) -> str:
    """Return the page and the line in it at which an error came up."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == path.resolve()
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)

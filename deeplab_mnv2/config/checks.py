"""Settings that check themselves: their names and types where they are set, their ranges later."""

import dataclasses
import difflib
import functools
import inspect
import itertools
import math
import os
import typing
from typing import Any, ClassVar

import numpy as np
from beartype import BeartypeConf
from beartype.door import is_bearable

from deeplab_mnv2.errors import UserError

# An int where a float is asked for is as good.
_NUMBERS = BeartypeConf(is_pep484_tower=True)


class Section:
    """A dataclass of settings whose attributes are its fields, each of the type it declares.

    `SECTION` is where the settings stand in a `Config`, as error messages name them. A name that
    begins with an underscore is no setting, but a class's own.

    Raises:
        UserError: on setting an attribute that is no field, or a value of another type.
    """

    SECTION: ClassVar[str] = ""

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        hints = _hints(type(self))
        if name not in hints:
            near = difflib.get_close_matches(name, hints, 1, 0.6)
            raise UserError(
                f"There is no setting {self._path(name)}"
                + (f"; did you mean {self._path(near[0])}?" if near else f" ({', '.join(hints)}).")
            )
        value = _plain(value, hints[name])
        if not _fits(value, hints[name]):
            raise UserError(
                f"{self._path(name)}={_shown(value)} is of another type than expected; it must be "
                f"{_expected(hints[name])}{_lacking(value, hints[name])}."
            )
        object.__setattr__(self, name, value)

    def require(self, holds: bool, name: str, expected: str) -> None:
        """Check one setting.

        Raises:
            UserError: `holds` is false.
        """
        if not holds:
            raise UserError(
                f"{self._path(name)}={_shown(getattr(self, name))} is out of range; it must be "
                f"{expected}."
            )

    def require_at_least(self, least: float, *names: str) -> None:
        """Check that numbers are finite and not below `least`.

        Raises:
            UserError: one is.
        """
        for name in names:
            value = getattr(self, name)
            self.require(least <= value < float("inf"), name, f"{least} or more")

    def require_one_of(self, choices: tuple[Any, ...], *names: str) -> None:
        """Check that settings are among `choices`.

        Raises:
            UserError: one is not.
        """
        for name in names:
            expected = " or ".join(map(str, choices))
            self.require(getattr(self, name) in choices, name, expected)

    def _path(self, name: str) -> str:
        return f"{self.SECTION or type(self).__name__}.{name}"


@functools.cache
def _hints(section: type) -> dict[str, Any]:
    hints = typing.get_type_hints(section)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def _plain(value: Any, hint: Any) -> Any:
    """Return NumPy's numbers as Python's, lists as tuples, whole numbers as floats if need be.

    JSON and the command line have lists, and people write 1 for 1.0.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        arguments = typing.get_args(hint)
        item = arguments[0] if arguments else Any
        return tuple(_plain(part, item) for part in value)
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            # Beyond every range, which the section's check says in words.
            return math.copysign(math.inf, -1 if value < 0 else 1)
    return value


def _fits(value: Any, hint: Any) -> bool:
    members = _members(hint)
    if any(getattr(member, "_is_protocol", False) for member in members):
        # By names alone: asking an object for a property may read its files.
        return any(
            _has_names(value, member)
            if getattr(member, "_is_protocol", False)
            else is_bearable(value, member, conf=_NUMBERS)
            for member in members
        )
    if isinstance(value, bool) and bool not in members:
        # Python counts True as 1.
        return False
    if typing.get_origin(hint) is tuple:
        # One by one: beartype looks at one item of a tuple, chosen at random.
        items = typing.get_args(hint)
        wanted = itertools.repeat(items[0]) if items[-1] is ... else items
        return (
            isinstance(value, tuple)
            and (items[-1] is ... or len(value) == len(items))
            and all(_fits(part, item) for part, item in zip(value, wanted, strict=False))
        )
    return is_bearable(value, hint, conf=_NUMBERS)


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    is_union = typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType"
    return typing.get_args(hint) if is_union else (hint,)


def _has_names(value: Any, protocol: Any) -> bool:
    return not isinstance(value, type) and not _missing_names(value, protocol)


def _missing_names(value: Any, protocol: Any) -> list[str]:
    names = {n for n in (*vars(protocol), *protocol.__annotations__) if not n.startswith("_")}
    names |= {"__call__"} & vars(protocol).keys()
    missing = object()
    return [
        name for name in sorted(names) if inspect.getattr_static(value, name, missing) is missing
    ]


def _lacking(value: Any, hint: Any) -> str:
    """Return what a dataclass of the user's own lacks, if that is why it does not fit."""
    protocols = [member for member in _members(hint) if getattr(member, "_is_protocol", False)]
    if not protocols or not dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, type):
        return f", not the class itself: write {value.__name__}(...)"
    return "".join(
        f", and {type(value).__name__} has no {' and no '.join(_missing_names(value, protocol))}"
        for protocol in protocols
    )


def _expected(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if typing.get_origin(hint) is tuple:
        item, *rest = typing.get_args(hint)
        kind = {int: "whole numbers", float: "numbers", str: "texts"}.get(item, "such objects")
        return f"a tuple of {kind}" if rest == [...] else f"a tuple of {1 + len(rest)} {kind}"
    names = [words.get(member) or f"{member.__name__}(...)" for member in _members(hint)]
    return " or ".join(names)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

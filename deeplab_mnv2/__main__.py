"""All commands by one name: `deeplab_mnv2 train ...` is `python -m deeplab_mnv2.train ...`."""

import ast
import difflib
import runpy
import sys
from pathlib import Path

_HELP = {"", "-h", "--help", "help"}


def main() -> None:
    """Run the command that the first argument names; list them where there is none."""
    commands = _commands()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in _HELP:
        width = max(map(len, commands))
        lines = [f"  {command:{width}}  {purpose}" for command, purpose in commands.items()]
        print("\n".join(["usage: deeplab_mnv2 COMMAND [--help] ...", "", *lines]))
        return
    if name not in commands:
        near = difflib.get_close_matches(name, commands, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(commands)}."
        print(f"error: There is no command {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    # The command sees the arguments that are its own.
    del sys.argv[1]
    runpy.run_module(f"deeplab_mnv2.{name}", run_name="__main__", alter_sys=True)


def _commands() -> dict[str, str]:
    """Return what each command is for, the first line of its file, read without importing it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text()
        if path.name != Path(__file__).name and '\nif __name__ == "__main__":' in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return found


if __name__ == "__main__":
    main()

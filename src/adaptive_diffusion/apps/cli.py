"""The entry point: runs a command and turns every error into one line and exit code 2.

The commands are imported only here inside, so that a missing extra gets that line, too.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

from adaptive_diffusion.apps.threads import limit_threads
from adaptive_diffusion.errors import AdaptiveDiffusionError

__all__ = ["main"]

_FAILED = 2
_INTERRUPTED = 130
_EXTRAS = {  # package: the extra that installs it, if it is not [cli]
    "fastapi": "serve",
    "fastapi_swagger": "serve",
    "peft": "lora",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "ray": "ray",
    "pyarrow": "ray",
    "gradio": "ui",
}
_EXPECTED = (AdaptiveDiffusionError, ValueError, OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `adaptive-diffusion` with these arguments (the process's own by default).

    Returns the exit code: 0, 2 after an error, 130 after an interruption.
    """
    settings: dict[str, Any] = {"debug": False}  # --debug writes itself in here
    limit_threads()
    try:
        from adaptive_diffusion.apps.commands.app import app

        arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
        code = app(
            args=arguments, prog_name="adaptive-diffusion", standalone_mode=False, obj=settings
        )
        if code == _INTERRUPTED:  # what newer Typers make of a KeyboardInterrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _say("interrupted", _INTERRUPTED)
    except Exception as error:
        if type(error).__name__ == "Abort":  # what older ones make of it
            return _say("interrupted", _INTERRUPTED)
        if settings["debug"]:
            traceback.print_exc()
            return _FAILED
        return _say(f"error: {_explain(error)}", _FAILED)


def _say(line: str, code: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return code


def _explain(error: Exception) -> str:
    if isinstance(error, ImportError):
        return _explain_missing(error)
    if hasattr(error, "format_message"):  # Typer's usage errors, whatever package they come from
        return f"{error.format_message()} (see --help)"
    if isinstance(error, _EXPECTED):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _explain_missing(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        extra = _EXTRAS.get(package, "cli")
        return f"{package} is not installed: {_come_by(extra)}"
    return f"{error}; {_come_by('cli')}"


def _come_by(extra: str) -> str:
    """How to install an extra: the package is on no index, so that its name alone is not enough."""
    return f'install the extra {extra}; in a checkout, pip install -e ".[{extra}]"'


if __name__ == "__main__":
    sys.exit(main())

"""The command `clipfit`."""

import platform
from importlib import metadata

from clipfit import __version__
from clipfit.io.commands import Parser


def main(argv: list[str] | None = None) -> None:
    """Run one command line; without arguments, print the help."""
    parser = Parser(prog="clipfit", description="CLIP adapted with few labels")
    parser.add_argument("--version", action="version", version=versions())
    parser.parse_args(argv)
    parser.print_help()


def versions() -> str:
    """Such as "clipfit 0.1.0 (torch 2.9.0, Python 3.11.7)"; torch itself is not imported."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "not installed"
    return f"clipfit {__version__} (torch {torch}, Python {platform.python_version()})"

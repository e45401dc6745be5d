"""The command `clipfit`."""

import argparse
import platform
from importlib import metadata

from clipfit import __version__


def main(argv: list[str] | None = None) -> None:
    """Run one command line; without arguments, print the help."""
    parser = argparse.ArgumentParser(
        prog="clipfit", description="CLIP adapted with few labels", allow_abbrev=False
    )
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

"""Arguments that every command about a fit takes."""

import argparse

from clipfit.io.commands import PATH


def add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fit", type=PATH, help="the folder fit of a run, or the run's folder")


def add_backbone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", type=PATH, default="", help="where the file of the backbone lies now")

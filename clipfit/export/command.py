"""clipfit export FIT --to ECOSYSTEM DIR"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from clipfit.export.ecosystems import ECOSYSTEMS, missing
from clipfit.fit.arguments import add_backbone, add_fit
from clipfit.fit.files import fit_folder, read_facts
from clipfit.io.commands import PATH, pasted

OPTIONS = {  # flag -> the one ecosystem that it is for
    "safetensors": "openai",
    "untouched": "transformers",
    "base_model": "peft",
    "onnx_exporter": "onnx",
    "dataset": "clip_benchmark",
}
INSTALL = ("python", "-m", "pip", "install")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit(parser)
    known = "; ".join(f"{name}: {ecosystem.says}" for name, ecosystem in ECOSYSTEMS.items())
    parser.add_argument("--to", required=True, choices=ECOSYSTEMS, help=known)
    parser.add_argument("folder", metavar="DIR", type=PATH, help="the new folder")
    parser.add_argument("--force", action="store_true", help="write into a folder that has files")
    add_backbone(parser)
    parser.add_argument(
        "--safetensors", action="store_true", help="openai: model.safetensors instead of model.pt"
    )
    parser.add_argument(
        "--untouched", action="store_true", help="transformers: the backbone before training, for adapters"
    )
    parser.add_argument(
        "--base-model", type=PATH, default="", help="peft: folder or hub name of the untouched CLIPModel"
    )
    parser.add_argument(
        "--onnx-exporter", choices=("newer", "older"), help="onnx: torch's exporter (default newer)"
    )
    parser.add_argument("--dataset", default="", help="clip_benchmark: what its --dataset will be")


def run(args: argparse.Namespace) -> int:
    folder, ecosystem = Path(args.folder), ECOSYSTEMS[args.to]
    _check(args, folder)
    from clipfit.export import card
    from clipfit.export.merged import read_merged

    options = {key: getattr(args, key) for key in OPTIONS if getattr(args, key)}
    fit = read_merged(args.fit, args.to, args.backbone, options)
    write = importlib.import_module(f"clipfit.export.{ecosystem.module}").write
    lines = write(fit, folder)
    card.write(fit, args.to, folder, lines)
    files = [path for path in folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    shown = f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
    print(f"{len(files)} files, {shown}, are in {folder}. Python that loads it:\n")
    print("\n".join(lines))
    if absent := missing(ecosystem.read_by):
        print(f"\nwhich needs: {pasted([*INSTALL, *absent])}")
    return 0


def _check(args: argparse.Namespace, folder: Path) -> None:
    """Raises: ValueError, FileExistsError, ImportError before anything is read"""
    for option, to in OPTIONS.items():
        if getattr(args, option) and to != args.to:
            raise ValueError(f"--{option.replace('_', '-')} is for --to {to}, not for --to {args.to}")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give a folder")
    fit = fit_folder(args.fit)
    backbone = Path(args.backbone or read_facts(fit)["backbone"]["name"])
    exported = [fit.resolve(), *([backbone.resolve().parent] if backbone.is_file() else [])]
    if args.force and folder.resolve() in exported:
        raise FileExistsError(f"{folder} has the files that are exported; give a new folder")
    if folder.is_dir() and any(folder.iterdir()) and not args.force:
        raise FileExistsError(f"{folder} has files already; give a new folder, or --force to write into it")
    if absent := missing(ECOSYSTEMS[args.to].written_by):
        raise ImportError(f"--to {args.to} needs other packages: {pasted([*INSTALL, *absent])}")

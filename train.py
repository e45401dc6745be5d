"""One run: arguments, config, trainer, then training and testing. Names no method and no data set.

python train.py --trainer CLIPFit --dataset-config-file configs/datasets/demo.yaml --protocol base2new
"""

import shlex
import sys
import traceback
from pathlib import Path

from dassl.utils import log_only, setup_logger
from launch.arguments import parse_args, training_command
from launch.folder import claim, read_result, run_folder, trained_folder, trained_on
from launch.resolve import ONLY_FOR_TESTS, Run, resolve

NO_OUTPUT_DIR = "./output"  # the engine's default: nobody asked for a folder


def main(argv: list[str] | None = None) -> None:
    """Run one command line. An error ends in one line and exit status 1; its traceback goes to log.txt."""
    argv = sys.argv[1:] if argv is None else argv
    sys.stdout.reconfigure(line_buffering=True)  # lines appear as they are printed, also in a pipe
    try:
        run(argv)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, FloatingPointError) as error:
        log_only(traceback.format_exc())
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(f"error: {message}")


def run(argv: list[str]) -> None:
    """Resolve, claim the run folder, then train or test."""
    args = parse_args(argv)
    run = resolve(args)
    cfg = run.cfg
    if cfg.OUTPUT_DIR == NO_OUTPUT_DIR:
        cfg.OUTPUT_DIR = str(run_folder(run))
    if run.trained_by and not cfg.RUN.MODEL_DIR:
        cfg.RUN.MODEL_DIR = _trained_model(run, args)

    from launch.runtime import prepare, settle_precision  # torch from here on

    settle_precision(cfg)
    cfg.freeze()
    if not args.no_train:
        if result := claim(Path(cfg.OUTPUT_DIR), cfg, ["python", "train.py", *argv]):
            print(f"{cfg.OUTPUT_DIR} is finished already")
            print_result(result)
            return
        setup_logger(cfg.OUTPUT_DIR)
    prepare(cfg)
    _execute(args, cfg)


def _execute(args, cfg) -> None:
    import datasets  # noqa: F401 - every file in these two folders registers itself
    import trainers  # noqa: F401
    from dassl.engine import build_trainer

    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(cfg.RUN.MODEL_DIR, epoch=args.load_epoch)
        trainer.test()
    elif args.no_train:
        return
    else:
        trainer.train()
    if read_result(cfg.OUTPUT_DIR) is None:  # a trainer with its own after_train may not have written one
        trainer.save_result()


def _trained_model(run: Run, args) -> str:
    """Folder of the run that this test loads; FileNotFoundError with the command that makes it."""
    folder = trained_folder(run)
    if read_result(folder) is None:
        command = training_command(args, run.trained_by, trained_on(run), ONLY_FOR_TESTS)
        raise FileNotFoundError(
            f"this test loads the run in {folder}, which is not there or not finished; train it with\n"
            f"  {shlex.join(command)}"
        )
    return str(folder)


def print_result(result: dict) -> None:
    """The result block of a finished run."""
    print("=> result")
    if result["accuracy"] is None:
        print("* not tested")
        return
    print(f"* total: {result['total']:,}\n* correct: {result['correct']:,}")
    for name, key in (("accuracy", "accuracy"), ("error", "error_rate"), ("macro_f1", "macro_f1")):
        print(f"* {name}: {result[key]:.2f}%")


if __name__ == "__main__":
    main()

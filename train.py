"""One run: arguments, config, trainer, then training and testing. Names no method and no data set.

python train.py --trainer CLIPFit --dataset-config-file configs/datasets/demo.yaml --protocol base2new
"""

import sys
import traceback

from dassl.run_folder import LOG, read_result
from dassl.utils import log_only, setup_logger
from dassl.utils.stop_signals import Stopped, obeyed
from launch.arguments import parse_args
from launch.bare_errors import described, is_bare
from launch.errors import message_of_run
from launch.finished import print_finished
from launch.folder import claim, finished, release, settle_folders
from launch.inputs import Inputs, note_tensors, read_inputs
from launch.resolve import Run, check_replaced, resolve, settle_input_size
from launch.tested_model import check_tested_classes, check_tested_model

ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    OSError,
    RuntimeError,
    MemoryError,
    ArithmeticError,
    NotImplementedError,
    AssertionError,
    AttributeError,
)


def main(argv: list[str] | None = None) -> None:
    """Run one command line. An error ends in one line and exit status 1; its traceback goes to log.txt.

    SIGTERM and SIGUSR1 end in one line and exit status 143 (dassl/utils/stop_signals.py).
    """
    argv = sys.argv[1:] if argv is None else argv
    sys.stdout.reconfigure(line_buffering=True)  # lines appear as they are printed, also in a pipe
    try:
        with obeyed():
            run_command(argv)
    except Stopped as stop:
        print(stop.words)
        raise
    except ERRORS as error:
        raise SystemExit(f"error: {message_of_run(error)}") from error
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last finished epoch that was kept")
        sys.exit(130)
    finally:
        release()


def run_command(argv: list[str]) -> None:
    """Resolve, see what is there, claim the run folder, then train or test."""
    args = parse_args(argv)
    run = resolve(args)
    cfg = run.cfg
    check_replaced(args, cfg)
    settle_folders(args, run)
    inputs = None if args.no_train else read_inputs(cfg)
    if not (args.no_train or args.redo) and (found := finished(run, inputs)):
        print_finished(run.cfg, found)
        return

    from launch.runtime import settle_precision  # torch from here on

    settle_input_size(cfg)
    settle_precision(cfg)
    if inputs and cfg.RUN.EVAL_ONLY and cfg.RUN.MODEL_DIR:
        run.notes += check_tested_model(cfg, run.declared, inputs)
    cfg.freeze()
    command = ["python", "train.py", *argv]
    if found := claim(run, command, inputs, no_train=args.no_train, redo=args.redo):
        print_finished(run.cfg, found)
        return
    if not args.no_train:
        setup_logger(cfg.OUTPUT_DIR)
    try:
        execute(args, run, inputs)
    except ERRORS as error:
        if args.no_train:
            traceback.print_exc()  # there is no log to keep it
        else:
            log_only(traceback.format_exc())
            print(f"(the traceback of the following error is in {cfg.OUTPUT_DIR}/{LOG})")
        if is_bare(error):
            raise RuntimeError(described(error, cfg.TRAINER.NAME)) from error
        raise


def execute(args, run: Run, inputs: Inputs | None) -> None:
    """Build the trainer, then train or test."""
    import datasets  # noqa: F401 - every file in these two folders registers itself
    import trainers  # noqa: F401
    from dassl.engine import build_trainer
    from launch.runtime import prepare

    cfg = run.cfg
    for note in run.notes:
        print(note)
    prepare(cfg)
    trainer = build_trainer(cfg)
    check_tested_classes(cfg, run.protocol, trainer.dm.dataset)
    if args.no_train:
        return
    trainer.inputs, trainer.train_files = inputs.digests, inputs.train_files
    if args.eval_only:
        trainer.load_model(cfg.RUN.MODEL_DIR, epoch=trainer.epoch_to_load(cfg.RUN.MODEL_DIR, args.load_epoch))
        note_tensors(trainer.inputs, cfg)
        trainer.final_test()
    else:
        trainer.train()
    if read_result(cfg.OUTPUT_DIR) is None:  # a trainer with its own after_train may not have written one
        trainer.save_result()


if __name__ == "__main__":
    main()

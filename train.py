"""One run: arguments, config, trainer, then training and testing. Names no method and no data set.

python train.py --trainer CLIPFit --dataset-config-file configs/datasets/demo.yaml --protocol base2new
"""

import argparse
import sys
import traceback

from dassl.run_folder import LOG, read_result
from dassl.utils import close_logger, log_only, ranks, settle_streams, setup_logger
from dassl.utils.stop_signals import Stopped, obeyed
from launch.arguments import parse_args
from launch.bare_errors import described, is_bare
from launch.errors import message_of_run
from launch.finished import print_finished, print_pictures
from launch.folder import claim, discard, finished, may_discard, release, settle_folders
from launch.inputs import Inputs, check_init_weights, note_backbone, note_tensors, read_inputs
from launch.resolve import Run, check_replaced, resolve, settle_input
from launch.tested_model import check_model_dir, check_tested_classes, check_tested_model

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

    Under torchrun it is one of the processes that share the run (dassl/utils/ranks.py).
    SIGTERM and SIGUSR1 end in one line and exit status 143 (dassl/utils/stop_signals.py).
    """
    argv = sys.argv[1:] if argv is None else argv
    settle_streams()
    try:
        with obeyed(), ranks.joined():
            run_command(argv)
    except Stopped as stop:
        if stop.says:
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
    begun = ranks.first_decides(lambda: begin(argv))
    if begun is None:
        return
    args, run, inputs = begun
    cfg, trainer = run.cfg, None
    if not args.no_train and ranks.is_first():
        setup_logger(cfg.OUTPUT_DIR)
    try:
        with ranks.failing_together(lambda error: words_of(error, run)):
            trainer = build(args, run)
            if not args.no_train:
                execute(args, trainer, inputs)
        if not args.no_train and ranks.is_first():
            if cfg.DATASET.IMAGES:
                print_pictures(cfg)
            show_page(run)
    except ERRORS as error:
        if args.no_train:
            traceback.print_exc()  # there is no log to keep it
        elif trainer is None and says_what_is_wrong(error) and may_discard(run):
            close_logger()
            discard(run)
        else:
            log_only(traceback.format_exc())
            print(f"(the traceback of the following error is in {cfg.OUTPUT_DIR}/{LOG})")
        if is_bare(error):
            raise RuntimeError(described(error, cfg.TRAINER.NAME)) from error
        raise


def begin(argv: list[str]) -> tuple[argparse.Namespace, Run, Inputs | None] | None:
    """Arguments, config and inputs of a run whose folder is claimed; None for one that is finished."""
    args = parse_args(argv)
    run = resolve(args)
    cfg = run.cfg
    check_replaced(args, cfg)
    settle_folders(args, run)
    inputs = None if args.no_train else read_inputs(cfg)
    if not (args.no_train or args.redo) and (found := finished(run, inputs)):
        print_finished(run.cfg, found)
        show_page(run)
        return None

    from launch.runtime import settle_memory, settle_precision  # torch from here on

    check_model_dir(cfg)
    check_init_weights(cfg)
    settle_input(cfg)
    if inputs:
        note_backbone(inputs, cfg)
    settle_precision(cfg)
    settle_memory(cfg, anew=args.redo)
    if inputs and cfg.RUN.EVAL_ONLY and cfg.RUN.MODEL_DIR:
        run.notes += check_tested_model(cfg, run.declared, inputs)
    cfg.freeze()
    command = ["python", "train.py", *argv]
    if found := claim(run, command, inputs, no_train=args.no_train, redo=args.redo):
        print_finished(run.cfg, found)
        show_page(run)
        return None
    return args, run, inputs


def words_of(error: BaseException, run: Run) -> str:
    """An error of another rank, for people."""
    return described(error, run.cfg.TRAINER.NAME) if is_bare(error) else message_of_run(error)


def says_what_is_wrong(error: BaseException) -> bool:
    """Whether an error is a user's to cure by its text alone, so that nobody needs the traceback."""
    return isinstance(error, (ValueError, LookupError, OSError)) and not is_bare(error)


def build(args, run: Run):
    """The trainer of a run, with the model that a test loads."""
    import datasets  # noqa: F401 - every file in these two folders registers itself
    import trainers  # noqa: F401
    from dassl.engine import build_trainer
    from launch.runtime import prepare

    cfg = run.cfg
    for note in run.notes:
        print(note)
    prepare(cfg)
    if args.no_train:
        print(f"** Config **\n{cfg}")  # there is no log to keep it
    trainer = build_trainer(cfg)
    check_tested_classes(cfg, run.protocol, trainer.dm.dataset)
    if args.eval_only:
        epoch = None if cfg.RUN.LOAD_EPOCH < 0 else cfg.RUN.LOAD_EPOCH
        trainer.load_model(cfg.RUN.MODEL_DIR, epoch=trainer.epoch_to_load(cfg.RUN.MODEL_DIR, epoch))
    print(summary(trainer, run))
    return trainer


def summary(trainer, run: Run) -> str:
    """What matters of a run that begins: method, data, what trains, where it is written."""
    cfg = run.cfg
    shots = "all images" if cfg.DATASET.NUM_SHOTS < 1 else f"{cfg.DATASET.NUM_SHOTS} shots"
    return (
        f"{cfg.TRAINER.NAME} on {cfg.DATASET.NAME}: {trainer.num_classes:,} classes, {shots}, "
        f"{trainer.count_trained_parameters():,} trained parameters; seed {cfg.SEED}, folder {cfg.OUTPUT_DIR}"
    )


def execute(args, trainer, inputs: Inputs) -> None:
    """Train or test a trainer that is built."""
    cfg = trainer.cfg
    trainer.inputs, trainer.train_files = inputs.digests, inputs.train_files
    if args.eval_only:
        note_tensors(trainer.inputs, cfg)
        trainer.final_test()
    else:
        trainer.train()
    # A trainer with its own after_train may not have written one.
    if ranks.is_first() and read_result(cfg.OUTPUT_DIR) is None:
        trainer.save_result()


def show_page(run: Run) -> None:
    """Write the page of a run that is finished, where its protocol says so."""
    if run.protocol.page:
        from report.pages.of_run import leave_page

        leave_page(run.cfg.OUTPUT_DIR)


if __name__ == "__main__":
    main()

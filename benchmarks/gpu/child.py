"""The process of one check: python -m benchmarks.gpu.child MODULE:FUNCTION CONTEXT"""

import importlib
import sys
import traceback

from benchmarks.gpu.context import Context, Skipped


def main(target: str, context_json: str) -> None:
    """Run the check and leave its outcome in the context's answer file."""
    context = Context.from_json(context_json)
    module, function = target.split(":")
    try:
        detail = getattr(importlib.import_module(module), function)(context)
    except Skipped as reason:
        context.save(status="skipped", detail=str(reason))
    except Exception as error:  # whatever it is, the next check goes on
        traceback.print_exc()
        context.problems.append(f"{type(error).__name__}: {error}")
        context.save(status="failed", detail="; ".join(context.problems))
    else:
        failed = bool(context.problems)
        context.save(
            status="failed" if failed else "passed",
            detail="; ".join([*context.problems, *([detail] if detail else [])]),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What was measured as Markdown tables, from the content of the JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown(content: Mapping) -> str:
    """The tables of all measurements that are there, under card, versions and date; empty without any."""
    found = {entry["name"]: entry.get("numbers", {}) for entry in content["checks"]}
    tables = [table(found[name]) for name, table in TABLES.items() if found.get(name)]
    if not tables:
        return ""
    machine = found.get("machine", {})
    card = machine.get("card") if content.get("device") == "cuda" else None
    where = f"{card or 'No GPU: numbers of a CPU'}, torch {machine.get('torch')}, CUDA {machine.get('cuda')}"
    head = f"# How fast\n\n{where}, {content['cores']} cores, {content['date']}.\n"
    return "\n".join([head, *tables])


def _steps(numbers: Mapping) -> str:
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in numbers["matrix_tflops"].items())
    rows = []
    for row in numbers["rows"]:
        if "ms" in row:
            share = f"{row['share_of_matrix_rate']:.0%}" if "share_of_matrix_rate" in row else "-"
            memory = f"{row['peak_mb']:,.0f}" if "peak_mb" in row else "-"
            cells = [f"{row['ms']:.1f}", f"{row['pictures_per_s']:,.0f}", share, memory]
        else:
            cells = [row["failed"], "-", "-", "-"]
        rows.append([f"{row['classes']:,}", row["precision"], row["way"], *cells])
    heads = ["classes", "precision", "way", "ms a step", "pictures/s", "share", "peak MiB"]
    notes = (
        "CLIPFit, 32 pictures. eager, graph: as a trainer steps, with its optimizer; plain: two text passes "
        "over whole prompts, loss and gradients only. share: operations that the method needs on ViT-B/16, "
        "those that are computed anew not counted, of what a product of two matrices of 8,192 reaches"
    )
    return _table("A training step", heads, rows, f"{notes}{f' ({rates} TFLOP/s)' if rates else ''}.")


def _tests(numbers: Mapping) -> str:
    rows = [
        [row["way"], f"{row['pictures']:,}", f"{row['seconds']:.1f}", f"{row['pictures_per_s']:,.0f}"]
        for row in numbers["rows"]
    ]
    notes = "Zero-shot CLIP on JPEGs of 500 x 375 pixels, the start of the loader's workers included."
    return _table("A test", ["kept", "pictures", "seconds", "pictures/s"], rows, notes)


def _runs(numbers: Mapping) -> str:
    rows = [
        [str(row["runs"]), f"{row['pictures_per_s']:,.0f}", f"{row['used_mb']:,.0f}"]
        for row in numbers["rows"]
    ]
    notes = "CLIPFit on ViT-B/16, ten classes, a batch of 32, one CPU thread each."
    return _table("Runs at once", ["runs", "pictures/s of all", "MiB in use"], rows, notes)


def _graphs(numbers: Mapping) -> str:
    rows = []
    for name, row in numbers.items():
        said = f"{row['difference']:.1e}" if "difference" in row else row.get("refused", "failed")
        rows.append([name, str(len(row["eager"])), said.replace("|", "/")])
    notes = "Losses of the step as a CUDA graph beside eager ones, `DETERMINISTIC True`."
    return _table("Graph and eager", ["method", "steps", "largest relative difference"], rows, notes)


TABLES = {"steps": _steps, "tests": _tests, "runs_at_once": _runs, "graphs": _graphs}


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: str) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join([f"## {title}", notes, "", *(f"| {' | '.join(line)} |" for line in lines), ""])

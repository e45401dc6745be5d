"""The paper's figures: which runs they show, the numbers they draw, and the files they become."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from clipfit.loading import load_clip
from dassl.run_folder import RECORD_FILES
from dassl.utils import close_logger
from grid.spec import Spec
from report import figures, selection
from report.figures import features, plots
from report.figures.definition import DRAWN, RunFigure, _drawn_from
from report.figures.from_tables import BaseNewScatter, FewShotCurves, Gains
from report.figures.panels import Bars, Cloud, Curve, LinePlot, Scatter
from report.figures.training import Training, read_record
from report.model import Cell, Head, Score, Table
from report.paper import SHIPPED, Paper

PROJECT = Path(__file__).parents[2]
PAPER = Paper.read(SHIPPED)
FIGURES = figures.load(PAPER)
Selection = partial(selection.Selection, PAPER)
DEMO = Selection(datasets=("demo",), seeds=(2, 1))
NUMBERED = [f"figure{number}" for number in range(3, 12)]  # 1 and 2 are schematics
ABLATIONS = "configs/ablations"


@dataclass(eq=False)
class Run:
    """What figures read of a planned run (grid.plan.Planned)."""

    name: str
    state: str = "done"
    reason: str = ""
    footnotes: tuple[str, ...] = ()
    result: dict | None = None
    folder: Path | None = None
    command: list[str] | None = None


# Which runs -----------------------------------------------------------------------------------------


def wanted(name, selection=DEMO):
    return {spec: set(record) for spec, record in FIGURES[name].specs(selection)}


def few_shot(dataset, config=""):
    return Spec(
        "CLIPFit", "few_shot", dataset, shots=4, seed=1, config_file=config and f"{ABLATIONS}/{config}"
    )


def test_every_figure_of_the_paper_that_shows_numbers_is_defined():
    assert [name for name in FIGURES if name.startswith("figure")] == NUMBERED
    assert all(figure.title and figure.caption and figure.source for figure in FIGURES.values())


def test_captions_say_which_settings_of_a_figure_are_our_reading():
    runs = {name: figure for name, figure in FIGURES.items() if isinstance(figure, RunFigure)}
    assert set(runs) == {f"figure{number}" for number in (3, 4, 5, 7, 8, 9, 10, 11)}
    for figure in runs.values():
        assert figure.caption.endswith("Protocol, shots and seed are our reading; the paper gives none.")
    places = {int(name.removeprefix("figure")): figure.source.split(", ")[1] for name, figure in runs.items()}
    assert [number for number, place in places.items() if place == "appendix H"] == [7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    "name, dataset", [("figure3", "dtd"), ("figure5", "eurosat"), ("figure7", "eurosat")]
)
def test_a_figure_of_the_trained_model_needs_the_default_run_of_one_seed(name, dataset):
    assert wanted(name, Selection(seeds=(3, 1, 2))) == {few_shot(dataset): set()}


@pytest.mark.parametrize(
    "name, dataset", [("figure4", "demo_garden"), ("figure8", "demo_garden"), ("figure9", "demo_signs")]
)
def test_the_study_of_regularisers_needs_kd_mse_and_none(name, dataset):
    runs = {few_shot(dataset), few_shot(dataset, "reg_mse.yaml"), few_shot(dataset, "proj_bias_ln.yaml")}
    assert wanted(name).keys() == runs


def test_only_runs_whose_course_is_shown_are_recorded_and_then_in_full():
    recorded = {spec for name in NUMBERED for spec, record in wanted(name).items() if record}
    assert recorded == {few_shot("demo_garden")}
    assert wanted("figure4")[few_shot("demo_garden")] == wanted("figure11")[few_shot("demo_garden")]
    assert wanted("figure11")[few_shot("demo_garden")] == set(RECORD_FILES)


def test_the_sensitivity_to_beta_trains_and_tests_every_seed_and_shares_the_default():
    specs = wanted("figure6", Selection(datasets=("demo_cloth", "dtd"), seeds=(1, 2)))
    assert len(specs) == 2 * 2 * 2 * 5  # data sets, seeds, base and new, values
    assert {spec.dataset for spec in specs} == {"demo_cloth", "dtd"}
    betas = {
        dict(zip(spec.pairs[::2], spec.pairs[1::2], strict=True)).get("TRAINER.CLIPFIT.BETA")
        for spec in specs
    }
    assert betas == {"0.0", "2.0", None, "4.0", "16.0"}  # None: the recipe's 8, the run of table 1
    assert Spec("CLIPFit", "base2new", "dtd", shots=16, seed=2, eval_only=True) in specs


@pytest.mark.parametrize(
    "selection, reason",
    [
        (Selection(datasets=("eurosat",)), "dtd, which is not selected"),
        (Selection(shots=(16,)), "4 shots, which are not selected"),
        (Selection(methods=("CoOp",)), "CLIPFit, which is not selected"),
    ],
)
def test_a_figure_outside_the_selection_needs_nothing_and_says_why_it_is_not_drawn(
    selection, reason, tmp_path
):
    assert wanted("figure3", selection) == {}
    (drawn,) = FIGURES["figure3"].draw(selection, {}, tmp_path)
    assert drawn.png is None and reason in drawn.reason
    assert list(tmp_path.iterdir()) == []


def test_a_family_that_is_not_asked_for_has_no_figure():
    assert [
        figure.embedded for figure in FIGURES["figure3"].draw(DEMO, planned("figure3", "todo"), Path())
    ] == [True]


def planned(name, state, selection=DEMO):
    """Outcomes of all runs of a figure, none of which is there."""
    return {
        spec: Run(name=f"run{number}", state=state)
        for number, (spec, _) in enumerate(FIGURES[name].specs(selection))
    }


def test_runs_that_are_not_done_are_named_with_their_state(tmp_path):
    (drawn,) = FIGURES["figure4"].draw(DEMO, planned("figure4", "failed"), tmp_path)
    assert drawn.png is None and drawn.reason == "runs that are not done: 3 of 3, such as run0 (failed)"


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"kind": "trainings"}, "did you mean 'training'"),
        ({"kind": "gains", "tabel": "table1"}, "'tabel.*did you mean .*table"),
        ({"kind": "gains", "table": "table1"}, "lacks title, source, caption, method, baseline"),
        ({"kind": "gains", "table": "table13"}, "unknown table 'table13'"),
        ({"kind": "features", "datasets": {"papers": "dtd"}}, "datasets: unknown family 'papers'; .*'paper'"),
        ({"kind": "features", "datasets": {"demo": "demo_v2"}}, "datasets lacks the family paper"),
        ({"kind": "training", "panels": [{"value": "chance", "tensors": [], "title": ""}]}, "chance.*change"),
        ({"kind": "training", "panels": [{"value": "change", "tensors": ["bias"], "title": ""}]}, "tensor"),
    ],
)
def test_a_broken_definition_names_the_figure_and_the_nearest_word(entry, message):
    with pytest.raises((KeyError, ValueError), match=f"(?s)figures.yaml, figure0.*{message}"):
        figures.loading._read(PAPER, "figure0", entry)


# Numbers of a run, against tensors and lines written by hand ----------------------------------------

BLOCK_BIAS = "text_encoder.transformer.resblocks.{}.mlp.c_proj.bias"
NORMS = [  # of the image encoder, in forward order
    "image_encoder.ln_pre",
    *(f"image_encoder.transformer.resblocks.{i}.ln_{k}" for i in range(12) for k in (1, 2)),
    "image_encoder.ln_post",
]
DEMO_RESULT = {"backbone": "demo", "precision": "fp32"}


@pytest.fixture(scope="module")
def clip():
    return load_clip("demo")


@pytest.fixture
def by_hand(clip, tmp_path):
    """A run folder whose tensors moved by (layer + 1) / 10 in their first entry; gains twice as far."""
    state, start = {}, dict(clip.named_parameters())
    for layer in range(12):
        state[BLOCK_BIAS.format(layer)] = 1, layer
    for layer, norm in enumerate(NORMS):
        state[f"{norm}.weight"], state[f"{norm}.bias"] = (2, layer), (1, layer)
    for name, (factor, layer) in state.items():
        state[name] = start[name].detach().clone()
        state[name][0] += factor * (layer + 1) / 10
    (tmp_path / "prompt_learner").mkdir()
    torch.save({"state_dict": state, "epoch": 2}, tmp_path / "prompt_learner/model.pth.tar-2")
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "prompt_learner/model.pth.tar-1")
    for kind, factor in (("gradient", 1.0), ("change", 0.5)):
        values = [factor * number for number in range(len(state))]
        lines = [{"epoch": 0, "names": [f"prompt_learner/{name}" for name in state]}]
        lines += [{"epoch": e, "batch": 1, "values": [e * value for value in values]} for e in (1, 2)]
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Training(tmp_path, DEMO_RESULT)


def test_the_change_of_a_layer_is_the_squared_distance_from_the_original_weights(by_hand):
    assert by_hand.change_by_layer("text bias") == pytest.approx(
        [(i + 1) ** 2 / 100 for i in range(12)], rel=1e-4
    )
    assert by_hand.change_by_layer("LayerNorm gain") == pytest.approx(
        [4 * (i + 1) ** 2 / 100 for i in range(26)], rel=1e-4
    )
    assert by_hand.change_by_layer("LayerNorm bias") == pytest.approx(
        [(i + 1) ** 2 / 100 for i in range(26)], rel=1e-4
    )


def test_a_tensor_that_did_not_train_did_not_change(by_hand):
    (by_hand.folder / "prompt_learner/model.pth.tar-2").unlink()  # epoch 1's checkpoint holds nothing
    assert by_hand.change_by_layer("text bias") == [0.0] * 12


def test_recorded_gradients_are_summed_over_iterations_and_found_by_name(by_hand):
    assert by_hand.gradient_by_layer("text bias") == [3.0 * i for i in range(12)]  # 1 + 2 epochs
    assert by_hand.gradient_by_layer("LayerNorm gain") == [3.0 * (12 + 2 * i) for i in range(26)]
    assert by_hand.gradient_by_layer("LayerNorm bias") == [3.0 * (13 + 2 * i) for i in range(26)]
    assert by_hand.change_by_iteration("LayerNorm bias")[0] == [0.5 * 13, 13.0]


# Numbers of real trainings, one epoch each ----------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(demo_root, tmp_path_factory):
    """The runs of figures 4 and 5, all of them done: every other figure of trainings has the same kinds."""
    folder = tmp_path_factory.mktemp("output")
    done = {}
    for name in ("figure4", "figure5"):
        for spec, _ in FIGURES[name].specs(DEMO):
            run = folder / spec.dataset / Path(spec.config_file or "kd").stem
            words = [
                *("--trainer", "CLIPFit", "--protocol", "few_shot", "--shots", "4", "--seed", "1"),
                *("--dataset-config-file", str(PROJECT / f"configs/datasets/{spec.dataset}.yaml")),
                *("--root", str(demo_root), "--output-dir", str(run)),
                *(("--config-file", str(PROJECT / spec.config_file)) if spec.config_file else ()),
                *("OPTIM.MAX_EPOCH", "1", "OPTIM.WARMUP_EPOCH", "-1", "DATALOADER.NUM_WORKERS", "0"),
                *("TRAIN.RECORD", "['gradient', 'change']", "TEST.NO_TEST", "True"),
            ]
            train.main(words)
            close_logger()
            done[spec] = Run(
                name=run.name,
                folder=run,
                result=json.loads((run / "result.json").read_text()),
                command=["python", "train.py", *words],
            )
    return done


def panels_of(name, outcomes):
    (sketch,) = FIGURES[name].sketches(DEMO, outcomes)
    assert sketch.embedded and sketch.note == "few_shot, 4 shots, seed 1."
    return sketch.panels()


def last_recorded(run, parameter):
    head, *rows = map(json.loads, (run.folder / "change.jsonl").read_text().splitlines())
    return rows[-1]["values"][head["names"].index(f"prompt_learner/{parameter}")]


def test_figure3_draws_what_training_itself_measured_last(outcomes):
    """Two ways to one number: checkpoint minus original weights, and the record of the last iteration."""
    run = outcomes[few_shot("demo_garden")]
    text, norms = panels_of("figure3", outcomes)
    expected = [last_recorded(run, BLOCK_BIAS.format(layer)) for layer in range(12)]
    assert text.curves == (Curve("CLIPFit", range(1, 13), pytest.approx(expected, rel=1e-6)),)
    for line, part in zip(norms.curves, ("weight", "bias"), strict=True):
        assert line.y == pytest.approx([last_recorded(run, f"{norm}.{part}") for norm in NORMS], rel=1e-6)
    assert [line.label for line in norms.curves] == ["LayerNorm gain", "LayerNorm bias"]
    assert min(expected) > 0


def test_regularisers_are_compared_by_the_change_of_each_of_their_runs(outcomes):
    panel = panels_of("figure4", outcomes)[-1]
    configs = {"KD": "", "none": "proj_bias_ln.yaml", "MSE": "reg_mse.yaml"}
    assert [line.label for line in panel.curves] == list(configs)
    for line in panel.curves:
        run = outcomes[few_shot("demo_garden", configs[line.label])]
        assert line.y == pytest.approx(
            [last_recorded(run, BLOCK_BIAS.format(i)) for i in range(12)], rel=1e-6
        )


def test_figure11_follows_the_first_layers_over_every_iteration(outcomes):
    gradient, course = panels_of("figure11", outcomes)
    run = outcomes[few_shot("demo_garden")]
    steps = len((run.folder / "metrics.jsonl").read_text().splitlines())
    assert [len(line.y) for line in gradient.curves] == [26, 26]
    assert [(line.label, len(line.y)) for line in course.curves] == [
        (label, steps) for label in ("LayerNorm gain", "LayerNorm bias", "text bias")
    ]
    firsts = ("image_encoder.ln_pre.weight", "image_encoder.ln_pre.bias", BLOCK_BIAS.format(0))
    assert [line.y[-1] for line in course.curves] == [last_recorded(run, name) for name in firsts]


def test_figure5_lays_out_the_features_of_test_images_before_and_after(outcomes, clip, monkeypatch):
    monkeypatch.setattr(features, "MOST_IMAGES", 40)
    run = outcomes[few_shot("demo_signs")]
    before_files = sorted(path for path in run.folder.rglob("*"))
    before, after, labels, classes = features.image_features(run.command, run.folder)
    assert before.shape == after.shape and len(before) == 40
    assert len(labels) == 40 and set(labels) <= set(range(len(classes))) and len(classes) <= 10
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, rtol=1e-5)

    trainer = features.build(run.command)
    items = features.chosen([item for item in trainer.dm.dataset.test if item.label < 10])
    assert labels == [item.label for item in items]
    with torch.no_grad():  # the zero-shot features, by CLIP alone
        image = next(iter(features.test_loader(trainer, items)))["img"][:4]
        plain = clip.encode_image(image)
        expected = plain / plain.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(before[:4], expected.numpy(), atol=1e-5)
    assert not np.allclose(before, after, atol=1e-4)

    zero_shot, clipfit = panels_of("figure5", outcomes)
    assert (zero_shot.title, clipfit.title) == ("Zero-shot CLIP", "CLIPFit")
    assert np.array(clipfit.points).shape == (40, 2) and zero_shot.points != clipfit.points
    assert sorted(path for path in run.folder.rglob("*")) == before_files  # nothing is written


def test_the_layout_is_the_same_every_time_and_keeps_clusters_apart():
    generator = np.random.RandomState(0)
    centres = np.repeat(np.eye(8)[:2], 20, axis=0)
    points = centres + 0.01 * generator.randn(40, 8)
    layout = np.array(features.plane(points.astype(np.float32)))
    assert layout.tolist() == features.plane(points.astype(np.float32))
    first, second = layout[:20], layout[20:]
    spread = max(np.linalg.norm(part - part.mean(0), axis=1).max() for part in (first, second))
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > spread


# Numbers of results and tables ----------------------------------------------------------------------


def test_figure6_is_the_harmonic_mean_of_average_accuracies_over_the_data_sets_that_are_done():
    figure = FIGURES["figure6"]
    selection = Selection(datasets=("demo_garden", "demo_cloth", "demo_signs"), seeds=(1, 2))
    outcomes = {}
    for number, (spec, _) in enumerate(figure.specs(selection)):
        beta = float(dict(zip(spec.pairs[::2], spec.pairs[1::2], strict=True)).get("TRAINER.CLIPFIT.BETA", 8))
        accuracy = (
            (60 if spec.eval_only else 80) + beta + 4 * (spec.seed == 2) + 2 * (spec.dataset == "demo_cloth")
        )
        state = "todo" if spec.dataset == "demo_signs" else "done"
        outcomes[spec] = Run(
            name=str(number),
            state=state,
            result={"accuracy": accuracy} if state == "done" else None,
        )
    (sketch,) = figure.sketches(selection, outcomes)
    (panel,) = sketch.panels()
    (line,) = panel.curves

    def hm(a, b):
        return 2 * a * b / (a + b)

    betas = [0, 2, 4, 8, 16]
    assert line.x == tuple(betas)
    assert line.y == pytest.approx([hm(83 + beta, 63 + beta) for beta in betas])  # + 1 data set, + 2 seed
    seeds = [(hm(81 + beta, 61 + beta), hm(85 + beta, 65 + beta)) for beta in betas]
    assert line.sd == pytest.approx([(high - low) / 2 for low, high in seeds])
    assert sketch.where == "average of 2 data sets" and "demo_garden, demo_cloth." in sketch.note


def table(rows, columns, numbers):
    """A table from heads ("group", "label") and rows of numbers, None for an empty cell."""
    cells = {
        (row, column): Cell(Score(mean=number))
        for row, line in enumerate(numbers)
        for column, number in enumerate(line)
    }
    heads = tuple(Head(label, group) for group, label in rows)
    return Table("table0", "", heads, tuple(map(Head, columns)), cells, embedded=True)


BASE_TO_NEW = table(
    [(group, metric) for group in ("DTD", "EuroSAT", "average") for metric in ("base", "new", "HM")]
    + [("cost", "parameters")],
    ["ZeroshotCLIP", "CoOp", "CLIPFit"],
    [[50, 80, 80], [60, 50, 62], [54.5, 61.5, 69.9]]
    + [[50, 90, 90], [60, 50, 40], [54.5, None, 55.4]]
    + [[50, 85, 85], [60, None, 51], [54.5, None, 63.8]]
    + [[0, 2048, 46080]],
)


def test_gains_are_differences_of_harmonic_means_the_largest_first_then_the_average():
    (panel,) = panels_from(Gains, BASE_TO_NEW, method="CLIPFit", baseline="ZeroshotCLIP")
    assert list(panel.values) == ["DTD", "EuroSAT", "average"] and panel.means == ("average",)
    assert list(panel.values.values()) == pytest.approx([15.4, 0.9, 9.3])


def test_the_scatter_shows_the_average_of_methods_that_have_both_numbers():
    (panel,) = panels_from(BaseNewScatter, BASE_TO_NEW)
    assert panel.title == "average"
    assert panel.points == {"ZeroshotCLIP": (50, 60), "CLIPFit": (85, 51)}


def test_few_shot_curves_have_a_panel_per_data_set_and_skip_what_is_missing():
    curves = table(
        [(f"{n} shot{'s' * (n > 1)}", method) for n in (1, 2, 16) for method in ("CoOp", "CLIPFit")],
        ["DTD", "EuroSAT"],
        [[40, None], [45, 55], [42, None], [50, 60], [60, None], [None, 80]],
    )
    dtd, eurosat = panels_from(FewShotCurves, curves)
    assert dtd.curves == (Curve("CoOp", (1, 2, 16), (40, 42, 60)), Curve("CLIPFit", (1, 2), (45, 50)))
    assert eurosat.curves == (Curve("CLIPFit", (1, 2, 16), (55, 60, 80)),)
    assert eurosat.title == "EuroSAT" and eurosat.xticks == (1, 2, 16)


def panels_from(kind, of, **more):
    return kind(id="x", title="", source="", caption="", table="table0", **more).panels_of(of)


# Files ----------------------------------------------------------------------------------------------

LINES = LinePlot("a", "x", "y", (Curve("one", [1, 2], [3, 4], [1, 1]), Curve("two", [1, 2], [4, 3])))
EVENLY = LinePlot("b", "x", "y", (Curve("one", [1, 16], [3, 4]),), xticks=(1, 16), evenly=True)
CLOUD = Cloud("c", [[0, 0], [1, 2], [2, 1]], [0, 1, 0], ("red", "blue", "absent"))
SCATTER = Scatter("d", "base", "new", {"CoOp": (80.0, 60.0), "CLIPFit": (82.0, 75.0)})
BARS = Bars("e", "points", {"DTD": 3.0, "EuroSAT": -1.0})


@pytest.mark.parametrize("panels", [[LINES, EVENLY], [LINES] * 6, [CLOUD, CLOUD], [SCATTER], [BARS]])
def test_every_panel_becomes_a_png_and_a_pdf_that_are_the_same_every_time(panels, tmp_path):
    contents = []
    for number in "12":
        files = plots.draw(panels, "title", tmp_path / number)
        assert [file.name for file in files] == [f"{number}.png", f"{number}.pdf"]
        contents.append([file.read_bytes() for file in files])
    png, pdf = contents[0]
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF") and b"/FontFile2" in pdf
    assert contents[0] == contents[1]


def test_a_series_keeps_its_look_in_all_panels():
    figure = plots.compose([LINES, EVENLY], "title")
    one, two, again = (line for axis in figure.axes for line in axis.get_lines())
    assert one.get_color() == again.get_color() != two.get_color()
    assert one.get_marker() == again.get_marker() != two.get_marker()
    assert list(again.get_xdata()) == [0, 1]  # evenly spaced, labelled by value
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["1", "16"]


def test_drawing_leaves_matplotlibs_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.compose([LINES], "title")
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_drawn_again_only_when_what_it_shows_has_changed(outcomes, tmp_path, monkeypatch):
    drawn = []
    draw = plots.draw
    monkeypatch.setattr(plots, "draw", lambda *args: drawn.append(args[1]) or draw(*args))
    runs = {spec: replace(run) for spec, run in outcomes.items()}
    for _ in range(2):
        (figure,) = FIGURES["figure3"].draw(DEMO, runs, tmp_path)
    assert figure.title.endswith(": demo_garden") and figure.embedded
    assert drawn == [f"{figure.title} (embedded data)"]
    assert (figure.png, figure.pdf) == (tmp_path / "figure3-embedded.png", tmp_path / "figure3-embedded.pdf")

    run = runs[few_shot("demo_garden")]
    run.result = {**run.result, "seconds_train": 1.5}  # trained again
    FIGURES["figure3"].draw(DEMO, runs, tmp_path)
    assert len(drawn) == 2
    figure.png.unlink()
    FIGURES["figure3"].draw(DEMO, runs, tmp_path)
    assert len(drawn) == 3 and figure.png.is_file()


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure5", "figure7", "figure8", "figure11"])
def test_figures_of_trainings_are_drawn_from_tiny_runs(name, outcomes, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "MOST_IMAGES", 30)
    (figure,) = FIGURES[name].draw(DEMO, outcomes, tmp_path)
    assert figure.reason == "" and figure.embedded
    assert figure.png.stat().st_size > 5000 and figure.pdf.stat().st_size > 5000


def test_definitions_and_figures_that_are_up_to_date_need_no_torch(tmp_path):
    code = (
        "import sys; from report import figures; from report.selection import Selection\n"
        "from report.paper import SHIPPED, Paper\n"
        "s = Selection(Paper.read(SHIPPED))\n"
        "[list(f.specs(s)) for n, f in figures.load(s.paper).items() if n.startswith('figure')]\n"
        "heavy = {'torch', 'matplotlib', 'sklearn'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


@pytest.mark.parametrize(
    "lines, message",
    [
        ("", "names no tensors"),
        ("[]\n", "line 1 is no line of a record"),
        ('{"names": ["a"]}\n{"values": [1', "line 2 is not valid JSON"),
        ('{"names": ["a"]}\n{"values": [NaN]}\n', "line 2 is no line of a record"),
        ('{"names": ["a"]}\n{"values": [1, 2]}\n', "line 2 has 2 values of 1 tensors"),
    ],
)
def test_a_damaged_record_is_told_with_its_line(lines, message, tmp_path):
    (tmp_path / "gradient.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=rf"gradient\.jsonl,? {message}"):
        read_record(tmp_path / "gradient.jsonl")


@pytest.mark.parametrize("content", ["[]", "{", "\0", "[" * 100_000])
def test_a_damaged_list_of_what_was_drawn_counts_as_none(content, tmp_path):
    (tmp_path / DRAWN).write_text(content)
    assert _drawn_from(tmp_path) == {}

"""Tables as data: which runs fill which cell, what a selection leaves of them, what the paper overrides."""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial

import pytest
import yaml

from dassl.config import load_yaml
from dassl.config.identity import digest, experiment
from grid.plan import plan
from grid.spec import Spec
from launch.registered import data_sets
from launch.resolve import PROJECT
from report import definitions, figures, selection
from report.definitions import Row, load
from report.paper import FILE, SHIPPED, Paper

SHIPPED_PAPER = Paper.read(SHIPPED)
TABLES = load(SHIPPED_PAPER)
PAPER, DEMO = map(SHIPPED_PAPER.family_of, ("dtd", "demo"))
Selection = partial(selection.Selection, SHIPPED_PAPER)
ONE_SEED = Selection(("paper", "demo"), seeds=(1,))


def specs(table, *datasets, **selection):
    return [spec for spec, _ in TABLES[table].specs(Selection(datasets or ("paper",), **selection))]


def test_all_tables_of_the_paper_with_accuracies_are_there_in_its_order():
    numbered = [f"table{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)]
    assert list(TABLES) == [*numbered, "layers", "regularisers"]


# Which runs -----------------------------------------------------------------------------------------


def test_base_to_new_trains_on_base_and_tests_on_new_classes():
    for seed in (1, 2):
        train = Spec("CLIPFit", "base2new", "dtd", 16, seed)
        wanted = specs("table1", "dtd", methods=("CLIPFit",), seeds=(1, 2))
        assert train in wanted
        assert Spec("CLIPFit", "base2new", "dtd", 16, seed, eval_only=True) in wanted
        assert len(wanted) == 4


def test_table_1_has_seven_methods_on_eleven_data_sets():
    pairs = Counter((spec.trainer, spec.eval_only) for spec in specs("table1", seeds=(1,)))
    assert set(pairs.values()) == {11}
    methods = {"ZeroshotCLIP", "CoOp", "CoCoOp", "CLIPAdapter", "KgCoOp", "MaPLe", "CLIPFit"}
    assert {trainer for trainer, _ in pairs} == methods


def test_tables_share_the_runs_that_the_paper_shows_twice():
    assert set(specs("table2")) == set(specs("table10"))
    assert set(specs("table7")) <= set(specs("table1"))
    assert set(specs("regularisers", methods=("CLIPFit",))) & set(specs("table6")) != set()


def test_the_shift_model_of_clipfit_is_its_few_shot_run_and_the_cross_dataset_model_is_not():
    source = [spec for spec in specs("table3", methods=("clipfit",), seeds=(1,)) if not spec.eval_only]
    assert source == [Spec("CLIPFit", "few_shot", "imagenet", 16, 1)]
    source = [spec for spec in specs("table9", methods=("clipfit",), seeds=(1,)) if not spec.eval_only]
    assert source == [Spec("CLIPFit", "cross_dataset", "imagenet", 16, 1)]


@pytest.mark.parametrize("datasets, source", [("paper", "imagenet"), ("demo", "demo")])
def test_coop_of_the_shift_table_is_the_four_vector_model_of_the_cross_dataset_table(
    datasets, source, tmp_path
):
    wanted = {
        table: TABLES[table].specs(Selection((datasets,), ("CoOp",), seeds=(1,)))
        for table in ("table3", "table9")
    }
    planned = {table: plan(runs, tmp_path, "data") for table, runs in wanted.items()}
    trained = [[run for run in set(runs.values()) if not run.needs] for runs in planned.values()]
    (shift,), (cross,) = trained
    assert shift.name == cross.name and shift.spec == Spec("CoOp", "cross_dataset", source, 16, 1)
    tests = [run for run in set(planned["table3"].values()) if run.needs]
    assert len(tests) == 2 and all(run.needs is shift for run in tests)
    for run in (shift, *tests):
        assert (run.config().TRAINER.COOP.N_CTX, run.config().TRAINER.COOP.CTX_INIT) == (4, "a photo of a")
    notes = " ".join(TABLES["table3"].notes + TABLES["table3"].printed_notes)
    assert "CoOp is the four-vector model" in notes and "71.51" in notes


def test_a_test_of_another_protocols_model_is_given_its_folder(monkeypatch):
    monkeypatch.chdir(PROJECT)
    wanted = TABLES["table3"].specs(Selection(("demo",), ("CoOp",), seeds=(1,)))
    tests = [run for run in set(plan(wanted, "output", "data").values()) if run.needs]
    for run in tests:
        given = run.command[run.command.index("--model-dir") + 1]
        assert given == str(run.needs.folder) == "output/cross_dataset/train/demo/shots_16/CoOp/demo/seed1"


@pytest.mark.parametrize(
    "datasets, shots",
    [(("imagenet", "demo"), (16,)), pytest.param(("paper", "demo"), (), marks=pytest.mark.slow)],
    ids=["as transfers train", "all"],
)
def test_no_two_trainings_differ_in_the_name_of_their_protocol_only(datasets, shots, tmp_path):
    every = Selection(datasets, shots=shots, seeds=(1,))
    shown = [*TABLES.values(), *figures.load(SHIPPED_PAPER).values()]
    wanted = [run for one in shown for run in one.specs(every)]
    trained = {}
    for run in dict.fromkeys(plan(wanted, tmp_path, "data").values()):
        if not run.spec.eval_only:
            settings = experiment(run.family)  # all are of one seed
            del settings["RUN.PROTOCOL"]
            trained.setdefault(digest(settings), []).append(run.name)
    assert [names for names in trained.values() if len(names) > 1] == []


def test_transfer_is_tested_on_the_familys_targets():
    tested = {spec.dataset for spec in specs("table3") if spec.eval_only}
    assert tested == {"imagenetv2", "imagenet_sketch"}
    tested = {spec.dataset for spec in specs("table9", "demo") if spec.eval_only}
    assert tested == {"demo_garden", "demo_cloth", "demo_signs"}


def test_zero_shot_clip_runs_once_whatever_the_seeds():
    assert {spec.seed for spec in specs("table1", seeds=(2, 3), methods=("zsclip",))} == {1}


def test_the_cost_of_zero_shot_clip_needs_no_run_on_the_source():
    wanted = specs("table3", "imagenetv2", methods=("zsclip",))
    assert wanted == [Spec("ZeroshotCLIP", "domain_shift", "imagenetv2", 16, 1, eval_only=True)]


def test_the_freezing_study_changes_one_thing_at_a_time():
    files = [spec.config_file for spec in specs("layers", "dtd", seeds=(1,))]
    assert len(files) == len(set(files)) == 10
    assert {spec.shots for spec in specs("layers")} == {4}
    assert "" in files  # CLIPFit itself


def test_a_gain_needs_both_of_its_runs():
    wanted = specs("table4", "dtd", methods=("CoOp",), seeds=(1,))
    assert Counter(spec.config_file for spec in wanted) == {"": 2, "configs/ablations/ul.yaml": 2}


def test_every_run_of_every_table_is_a_valid_run_with_a_folder_of_its_own(tmp_path):
    some = Selection(("imagenet", "dtd", "imagenetv2", "demo_garden"), seeds=(1,))
    wanted = {spec: record for table in TABLES.values() for spec, record in table.specs(some)}
    planned = plan(wanted.items(), tmp_path, "data")
    assert set(wanted) <= set(planned)
    assert len({run.name for run in planned.values()}) == len(set(planned.values()))


def test_naming_runs_needs_no_torch():
    code = (
        "import sys; from report.definitions import load; from report import results, statistics;"
        "from report.paper import SHIPPED, Paper; from report.selection import Selection;"
        "every = Selection(Paper.read(SHIPPED)); tables = load(every.paper).values();"
        "[list(table.specs(every)) for table in tables]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_config_files_and_data_sets_exist():
    wanted = {spec for table in TABLES.values() for spec, _ in table.specs(ONE_SEED)}
    for path in {spec.config_file for spec in wanted if spec.config_file}:
        assert (PROJECT / path).is_file()
    for family in SHIPPED_PAPER.families:
        for dataset in family.every:
            assert (PROJECT / f"configs/datasets/{dataset}.yaml").is_file()


# Selections -----------------------------------------------------------------------------------------


def test_a_family_name_stands_for_all_its_data_sets():
    assert Selection(("demo",)).stems == DEMO.every
    assert len(Selection(("paper",)).stems) == 13
    assert Selection(("dtd", "demo", "dtd")).stems == ("dtd", *DEMO.every)
    assert Selection(("dtd",)).of_datasets(("imagenet", "dtd")) == ("dtd",)


def test_methods_are_known_by_any_of_their_spellings():
    assert Selection(methods=("clip_adapter", "zsclip", "CLIPAdapter")).methods == (
        "CLIPAdapter",
        "ZeroshotCLIP",
    )


@pytest.mark.parametrize(
    "selection, message",
    [
        ({"datasets": ("dttd",)}, "did you mean 'dtd'"),
        ({"datasets": ("papers",)}, "did you mean 'paper'"),
        ({"methods": ("CLIPFitt",)}, "did you mean 'CLIPFit'"),
        ({"shots": (3,)}, "no table has 3 shots"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (-1,)}, "from 0 on"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(selection, message):
    with pytest.raises(ValueError, match=message):
        Selection(**selection)


def test_a_data_set_belongs_to_one_family():
    assert (SHIPPED_PAPER.family_of("imagenetv2"), SHIPPED_PAPER.family_of("demo_v2")) == (PAPER, DEMO)
    every = [stem for family in SHIPPED_PAPER.families for stem in family.every]
    assert sorted(every) == sorted(one.stem for one in data_sets())
    with pytest.raises(ValueError, match="did you mean 'dtd'"):
        SHIPPED_PAPER.family_of("dtdd")


def test_shots_that_a_table_lacks_leave_nothing_of_it():
    assert specs("table1", shots=(4,)) == []
    assert {spec.shots for spec in specs("table10", shots=(4, 16))} == {4, 16}


def test_a_method_that_a_table_lacks_leaves_nothing_of_it():
    assert specs("table5", methods=("CoOp",)) == []


@pytest.mark.parametrize(
    "asked", [{"shots": (4,)}, {"datasets": ("imagenetv2",)}, {"methods": ("TipAdapter",)}]
)
def test_a_selection_of_nothing_is_answered_with_what_there_is(asked):
    with pytest.raises(ValueError, match="nothing of table1 is selected") as raised:
        selection.check_not_empty([TABLES["table1"]], Selection(**asked))
    for line in ("demo (demo demo_v2 ", "--methods   ZeroshotCLIP CoOp ", "--shots     16"):
        assert line in str(raised.value)
    selection.check_not_empty([TABLES["table1"], TABLES["table10"]], Selection(shots=(4,)))


def test_a_method_of_no_table_joins_those_that_compare_methods():
    wanted = {"methods": ("zsclip2", "CoOp"), "seeds": (1,)}
    names = {table: [row.name for row in TABLES[table].methods(Selection(**wanted))] for table in TABLES}
    assert names["table1"] == names["table10"] == ["CoOp", "ZeroshotCLIP2"]
    assert names["table4"] == ["alone", "+UL", "gain"] and names["table5"] == names["layers"] == []
    assert Spec("ZeroshotCLIP2", "base2new", "dtd", 16, 1) in specs("table1", "dtd", **wanted)


def test_a_method_that_knows_only_its_classes_joins_where_they_are_tested(monkeypatch):
    monkeypatch.setattr(definitions, "_fact", lambda trainer, name: name != "new_classes")
    wanted = Selection(methods=("zsclip2",))
    held = [id for id, table in TABLES.items() if table.methods(wanted)]
    assert {TABLES[id].protocol for id in held} == {"few_shot", "domain_shift"}


def test_a_method_whose_file_is_gone_is_known_by_its_runs(tmp_path):
    (tmp_path / "base2new/test_new/demo/shots_16/FeatureScale").mkdir(parents=True)
    assert Selection(methods=("feature_scale",), output=tmp_path).methods == ("FeatureScale",)
    with pytest.raises(ValueError, match="did you mean 'FeatureScale'"):
        Selection(methods=("FeaturesScale",), output=tmp_path)
    with pytest.raises(ValueError, match="unknown method 'FeatureScale'"):
        Selection(methods=("FeatureScale",))


# Rows -----------------------------------------------------------------------------------------------


def test_a_row_sets_config_keys():
    row = Row.read({"name": "beta 4", "trainer": "CLIPFit", "set": {"TRAINER.CLIPFIT.BETA": 4.0}}, "here")
    assert row.spec(SHIPPED_PAPER, "dtd", "base2new", 16, 1).pairs == ("TRAINER.CLIPFIT.BETA", "4.0")
    nested = Row.read(
        {"name": "x", "trainer": "CLIPFit", "set": {"TRAINER": {"CLIPFIT": {"BETA": 4}}}}, "here"
    )
    assert nested.pairs == ("TRAINER.CLIPFIT.BETA", "4")


def test_a_list_survives_the_command_line(tmp_path):
    row = Row.read(
        {"name": "x", "trainer": "CLIPFit", "set": {"TRAINER.CLIPFIT.UNFREEZE": ["text.bias"]}}, "here"
    )
    spec = row.spec(SHIPPED_PAPER, "demo", "base2new", 16, 1)
    (planned,) = plan([(spec, ())], tmp_path, "data").values()
    assert planned.command[-2:] == ["TRAINER.CLIPFIT.UNFREEZE", "['text.bias']"]


@pytest.mark.parametrize(
    "entry, error, message",
    [
        ({"trainer": "CLIPFit"}, ValueError, "there: a row lacks name"),
        ({"name": "x", "trainer": "CLIPFit", "confg": "a.yaml"}, KeyError, "did you mean 'config'"),
        (
            {"name": "x", "trainer": "CoOp", "trained_by": "cross_data"},
            ValueError,
            "there, trained_by: .* did you mean 'cross_dataset'",
        ),
    ],
)
def test_a_broken_row_is_named_with_its_place(entry, error, message):
    with pytest.raises(error, match=message):
        Row.read(entry, "there")


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"metric": ["base"]}, KeyError, "did you mean 'metrics'"),
        ({"source": ""}, ValueError, "lacks source"),
        ({"layout": {"rows": ["methods"], "columns": ["data"]}}, ValueError, "did you mean 'method'"),
        ({"metrics": ["bas"]}, ValueError, "did you mean 'base'"),
        ({"rows": [{"name": "no trainer"}]}, ValueError, "lacks trainer"),
        ({"shots": [32]}, ValueError, "has 32 shots, which are not among the shots of .*paper.yaml"),
        ({"printed": "table99"}, FileNotFoundError, "table99.csv does not exist"),
    ],
)
def test_a_broken_table_is_named_with_its_place(tmp_path, change, error, message):
    content = load_yaml(SHIPPED / "tables/table01.yaml")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/broken.yaml").write_text(
        yaml.safe_dump({**content, "printed": "", **change}), encoding="utf-8"
    )
    shutil.copy(SHIPPED / FILE, tmp_path)
    with pytest.raises(error, match=message) as raised:
        load(Paper.read(tmp_path))
    assert "broken.yaml" in str(raised.value)


# What the paper states otherwise --------------------------------------------------------------------


def test_overrides_touch_only_what_no_release_says():
    methods = {row.trainer for table in TABLES.values() for row in table.rows}
    touched = {
        method
        for method in methods
        for dataset in PAPER.every
        if SHIPPED_PAPER.overrides(method, dataset, 16)
    }
    assert touched == {"CLIPAdapter", "TipAdapter"}


def test_embedded_data_are_never_overridden():
    for table in TABLES.values():
        assert not any(spec.pairs for spec, _ in table.specs(Selection(("demo",))) if not spec.trained_by)


def test_later_overrides_win_and_a_row_wins_over_them():
    assert SHIPPED_PAPER.overrides("CLIPAdapter", "dtd", 16) == {"OPTIM.MAX_EPOCH": 100}
    assert SHIPPED_PAPER.overrides("CLIPAdapter", "food101", 1) == {"OPTIM.MAX_EPOCH": 10}
    row = Row("short", "CLIPAdapter", pairs=("OPTIM.MAX_EPOCH", "2"))
    assert row.spec(SHIPPED_PAPER, "dtd", "few_shot", 16, 1).pairs == ("OPTIM.MAX_EPOCH", "2")


def test_a_transfer_test_is_overridden_as_the_training_that_it_loads(tmp_path):
    spec = Row("a", "CLIPAdapter").spec(SHIPPED_PAPER, "imagenetv2", "domain_shift", 16, 1, eval_only=True)
    assert spec.pairs == ("OPTIM.MAX_EPOCH", "10")
    trained = Row("a", "CLIPAdapter").spec(SHIPPED_PAPER, "imagenet", "few_shot", 16, 1)
    planned = plan([(spec, ()), (trained, ())], tmp_path, "data")
    assert planned[spec].needs is planned[trained]


def test_tip_adapter_has_one_prompt_on_imagenet_and_on_the_shifted_images_that_its_model_meets(tmp_path):
    wanted = [run for run in TABLES["table3"].specs(Selection(methods=("TipAdapter",), seeds=(1,)))]
    planned = set(plan(wanted, tmp_path, "data").values())
    prompts = {run.config().DATASET.NAME: run.config().DATASET.PROMPT_TEMPLATE for run in planned}
    assert prompts == dict.fromkeys(["ImageNet", "ImageNetV2", "ImageNetSketch"], "a photo of a {}.")
    assert SHIPPED_PAPER.overrides("TipAdapter", "dtd", 16) == {}


def test_every_override_has_a_source_and_known_keys(tmp_path):
    shutil.copy(SHIPPED / FILE, tmp_path)

    def cases(text):
        (tmp_path / "overrides.yaml").write_text(text, encoding="utf-8")
        return Paper.read(tmp_path).overrides("CoOp", "dtd", 16)

    with pytest.raises(KeyError, match="lacks its source"):
        cases("WHEN: [{method: [CoOp], set: {OPTIM.LR: 1}}]")
    with pytest.raises(KeyError, match="did you mean 'method'"):
        cases("WHEN: [{methods: [CoOp], set: {OPTIM.LR: 1}, source: x}]")


def test_table_8_template_is_what_the_documentation_says_it_is():
    with open(SHIPPED / "printed/table08.csv", newline="", encoding="utf-8") as file:
        prompts = {row["dataset"]: row["prompt"] for row in csv.DictReader(file)}
    assert prompts["dtd"].replace("[CLASS]", "{}") == "{} texture."
    assert '"{} texture."' in (SHIPPED / "overrides.yaml").read_text(encoding="utf-8")

"""A file of the user's that brings a class of a shipped name: who has the name, and what says so."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.config.facts import Facts
from launch import registered
from launch.arguments import parse_args
from launch.registered import (
    class_fact,
    data_set,
    data_sets,
    explicit_name,
    method_name,
    methods,
    settled_name,
    shipped_files,
    shipped_methods,
)

PROJECT = Path(__file__).parents[2]
REGISTERS = "@TRAINER_REGISTRY.register()\nclass {}(TrainerX): ...\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with two shipped trainers; add(stem, name) drops another file into trainers/."""
    monkeypatch.setattr(registered, "PROJECT", tmp_path)
    folder = tmp_path / "trainers"
    folder.mkdir()
    defaults = tmp_path / "configs/trainers"
    defaults.mkdir(parents=True)

    def add(stem, name, code=REGISTERS):
        (folder / f"{stem}.py").write_text(code.format(name))

    for stem, name in (("coop", "CoOp"), ("cocoop", "CoCoOp")):
        add(stem, name)
        (defaults / f"{name}.yaml").touch()
    return add


def test_alone_a_name_needs_nothing(project):
    project("mmrl", "MMRL")
    for replace in (False, True):
        assert settled_name("trainers", "CoOp", replace) == "CoOp"
        assert settled_name("trainers", "MMRL", replace) == "MMRL"
        assert settled_name("trainers", "Unknown", replace) == "Unknown"
    assert explicit_name("trainers", "CoOp") == settled_name("trainers", "CoOp@coop") == "CoOp"
    with pytest.raises(
        ValueError, match=r"trainers/coop2.py registers no trainer CoOp \(there is: CoOp@coop\)"
    ):
        settled_name("trainers", "CoOp@coop2")


@pytest.mark.parametrize("stem", ["coop_original", "a_first_one"])
@pytest.mark.parametrize(
    "code",
    [
        REGISTERS,
        "@engine.TRAINER_REGISTRY.register(force=True)\nclass {}: ...",
        "class {0}: ...\nTRAINER_REGISTRY.register({0})\n",
    ],
)
def test_of_two_files_the_one_with_the_methods_name_is_shipped_and_a_run_says_which_it_means(
    project, stem, code
):
    project(stem, "CoOp", code)
    with pytest.raises(ValueError) as error:
        settled_name("trainers", "CoOp")
    for part in ("trainers/coop.py", f"trainers/{stem}.py", "--replace", f"CoOp@{stem}", "CoOp@coop "):
        assert part in str(error.value)
    assert settled_name("trainers", "CoOp", replace=True) == f"CoOp@{stem}"
    assert settled_name("trainers", f"CoOp@{stem}") == f"CoOp@{stem}"
    assert (
        settled_name("trainers", "CoOp@coop") == settled_name("trainers", "CoOp@coop", replace=True) == "CoOp"
    )
    assert settled_name("trainers", "CoCoOp") == settled_name("trainers", "CoCoOp", replace=True) == "CoCoOp"
    assert explicit_name("trainers", "CoOp") == "CoOp@coop"


def test_of_three_files_the_flag_cannot_choose(project):
    project("one", "CoOp")
    project("two", "CoOp")
    with pytest.raises(ValueError, match="give --trainer CoOp@one or CoOp@two to run yours") as error:
        settled_name("trainers", "CoOp", replace=True)
    assert "--replace" not in str(error.value)
    assert settled_name("trainers", "CoOp@two") == "CoOp@two"


def test_methods_are_what_the_files_register(project):
    project("mmrl", "MMRL")
    project("coop_original", "CoOp")
    assert methods() == ["CoCoOp", "CoOp", "CoOp@coop_original", "MMRL"]
    assert shipped_methods() == ["CoCoOp", "CoOp"]


@pytest.mark.parametrize(
    "word, name",
    [
        ("coop", "CoOp"),
        ("Co_CoOp", "CoCoOp"),
        ("CO_OP@coop_original", "CoOp@coop_original"),
        ("coop_original", "CoOp@coop_original"),
        ("vision_prompts", "MMRL"),  # its file, in which it is alone
        ("two", "two"),  # a file of two
        ("multi_modal", "Second"),
        ("nothing", "nothing"),
    ],
)
def test_a_method_is_known_by_name_spelling_and_file(project, word, name):
    project("coop_original", "CoOp")
    project("vision_prompts", "MMRL")
    spelled = REGISTERS.replace(" ...", "\n    spellings = 'multimodal',\n")
    project("two", "Second", REGISTERS.format("First") + spelled)
    assert method_name(word) == name


def test_a_class_may_state_that_it_is_called_like_its_file(project):
    own = REGISTERS.replace(" ...", "\n    spellings = ('zs',)\n    version = 3\n")
    project("zs", "ZeroshotCLIP", own)
    project("zs_copy", "ZeroshotCLIP")
    (registered.PROJECT / "configs/trainers/ZeroshotCLIP.yaml").touch()
    assert shipped_files(registered.PROJECT / "trainers") == ("cocoop", "coop", "zs")
    assert methods()[-2:] == ["ZeroshotCLIP", "ZeroshotCLIP@zs_copy"]
    assert class_fact("trainers", "ZeroshotCLIP", "version", 1) == 3
    assert class_fact("trainers", "ZeroshotCLIP@zs_copy", "version", 1) == 1


def test_a_name_that_is_in_the_registry_is_in_the_list():
    import trainers  # noqa: F401
    from dassl.engine import TRAINER_REGISTRY

    of_files = {
        name
        for name in TRAINER_REGISTRY.registered_names()
        if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
        and Path(sys.modules[TRAINER_REGISTRY.get(name).__module__].__file__ or "").is_file()
    }
    assert of_files == set(methods())


def test_a_class_fact_is_that_of_the_class_or_its_nearest_base(project):
    folder = registered.PROJECT / "trainers"
    (folder / "base.py").write_text(
        'class Base:\n    version = 3\n    keys: tuple = ("A", "B")\n    empty: int\n'
    )
    register = "@TRAINER_REGISTRY.register()\n"
    (folder / "coop.py").write_text(f"{register}class CoOp(base.Base):\n    node = 'COOP'\n")
    (folder / "theirs.py").write_text(f"{register}class CoOp(CoOp):\n    version = 4\n")
    facts = [class_fact("trainers", "CoOp", key, None) for key in ("version", "keys", "node", "empty")]
    assert facts == [3, ("A", "B"), "COOP", None]
    assert class_fact("trainers", "CoOp@theirs", "version", 1) == 4
    assert class_fact("trainers", "CoOp@theirs", "node", "") == "COOP"
    assert class_fact("trainers", "Unknown", "version", 1) == 1


def test_every_shipped_trainer_and_data_set_is_of_a_shipped_file():
    for name in shipped_methods():
        assert registered._files("trainers", name)[0], name
    git = subprocess.run(
        ["git", "ls-files", "trainers/*.py", "datasets/*.py"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    if git.returncode:
        pytest.skip("not a clone")
    files = [Path(line) for line in git.stdout.split() if Path(line).parts[1:] != ("__init__.py",)]
    of_methods = {path.stem for path in files if path.parent.name == "trainers"}
    shared = {"averages", "base", "decoupled", "fit", "graph", "heads", "low_rank", "stages"}
    shared |= {"tip_adapter_search", "tokens", "views"}
    assert of_methods - shared == set(shipped_files(PROJECT / "trainers"))
    registering = {str(one.file.relative_to(PROJECT)) for one in data_sets()}
    assert registering <= set(map(str, files))
    assert {Path(path).stem for path in registering} == set(shipped_files(PROJECT / "datasets"))


# Data sets

DATA_SET = "@DATASET_REGISTRY.register()\nclass {}(DatasetBase): ...\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with a shipped data set; add(path, text) writes another file of it."""
    monkeypatch.setattr(registered, "PROJECT", tmp_path)

    def add(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    add("datasets/pets.py", DATA_SET.format("Pets"))
    add("datasets/pets.yaml", "name: Pets\nfamily: animals\n")
    add("configs/datasets/pets.yaml", "DATASET: {NAME: Pets}\n")
    return add


def stems():
    return {one.stem: one.name for one in data_sets()}


def test_a_data_set_is_called_by_its_facts_its_yaml_or_its_file(folder):
    folder("datasets/a_file.py", DATA_SET.format("First") + DATA_SET.format("Second"))
    folder("datasets/myphotos.py", DATA_SET.format("MyPhotos"))
    folder("datasets/other.py", DATA_SET.format("Other"))
    folder("configs/datasets/with_yaml.yaml", "DATASET: {NAME: Other}\n")
    folder("datasets/splits.py", "class SplitDataset: ...\n")
    assert stems() == {
        **{"pets": "Pets", "First": "First", "Second": "Second"},
        **{"myphotos": "MyPhotos", "with_yaml": "Other"},
    }
    photos = data_set("myphotos")
    assert (photos.config, photos.facts) == (None, Facts("MyPhotos"))
    assert data_set("OTHER").config == registered.PROJECT / "configs/datasets/with_yaml.yaml"
    assert data_set("Pets").facts.family == "animals"


def test_another_yaml_of_a_data_set_is_found_by_its_stem(folder):
    folder("configs/datasets/pets_small.yaml", "DATASET: {NAME: Pets, NUM_SHOTS: 2}\n")
    found = data_set("pets_small")
    assert (found.stem, found.name, found.config.stem) == ("pets_small", "Pets", "pets_small")
    assert list(stems()) == ["pets"]


def test_an_unknown_data_set_is_answered_with_the_nearest(folder):
    with pytest.raises(ValueError, match="unknown data set 'petts'; did you mean 'pets'"):
        data_set("petts")


def test_facts_about_a_name_that_nothing_registers_are_named(folder):
    folder("datasets/birds.yaml", "name: Birds\n")
    with pytest.raises(ValueError, match="birds.yaml, name: no file of datasets/ registers it.*'Birds'"):
        data_sets()


def test_the_file_with_facts_beside_it_keeps_the_name(folder):
    folder("datasets/a_copy.py", DATA_SET.format("Pets"))
    assert data_set("pets").file.stem == "pets" and list(stems()) == ["pets"]
    assert explicit_name("datasets", "Pets") == "Pets@pets"
    assert settled_name("datasets", "Pets", replace=True) == "Pets@a_copy"
    folder("datasets/a_copy.yaml", "name: Copy\n")
    with pytest.raises(ValueError, match="datasets/a_copy.py and datasets/pets.py bring .* YAML beside it"):
        settled_name("datasets", "Pets")


# The same with train.py, in a copy of the project

ORIGINAL = '''
"""A CoOp of another repository, written for Dassl."""

from torch import nn
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer


@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        print(f"the original, {self.cfg.TRAINER.COOP.N_CTX} vectors")
        self.model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, self.num_classes))
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = batch["img"].to(self.device), batch["label"].to(self.device)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
'''
DATA = '''
from dassl.data.datasets import DATASET_REGISTRY
from datasets import demo


@DATASET_REGISTRY.register()
class DemoV2(demo.DemoV2):
    """Another reading of the same pictures."""
'''
RUNS = """
import contextlib, io, json, sys
import train
from dassl.utils import close_logger

answers = []
for argv in json.loads(sys.argv[1]):
    said = io.StringIO()
    said.reconfigure = lambda **options: None
    with contextlib.redirect_stdout(said):
        try:
            code = train.main(argv)
        except SystemExit as stop:
            code = stop.code
        close_logger()
    answers.append([code, said.getvalue()])
from dassl.engine import TRAINER_REGISTRY
bases = [base.__module__ for base in TRAINER_REGISTRY.get("CoCoOp").__mro__]
print(json.dumps({"answers": answers, "bases": bases}))
"""


@pytest.fixture
def copy(tmp_path, demo_root):
    """Run command lines of train.py, one after another, in a copy of the project with a file more."""
    project = tmp_path / "project"
    for name in ("configs", "datasets", "dassl", "grid", "launch", "clipfit", "trainers"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "train.py", project)
    (project / "trainers/coop_original.py").write_text(ORIGINAL)
    (project / "datasets/v2_original.py").write_text(DATA)

    def run(*commands):
        argvs = [["--root", str(demo_root), *map(str, words), "VERBOSE", "False"] for words in commands]
        done = subprocess.run(
            [sys.executable, "-c", RUNS, json.dumps(argvs)], cwd=project, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run.project = project
    return run


def words(*more, trainer="CoOp", dataset="demo"):
    data = f"configs/datasets/{dataset}.yaml"
    return ["--trainer", trainer, "--dataset-config-file", data, "--seed", 1, *more]


def test_the_users_class_takes_the_shipped_name_where_it_is_asked_to(copy, result):
    base = ("--protocol", "base2new", "--shots", 1)
    fast = ("OPTIM.MAX_EPOCH", 1, "TRAINER.COOP.N_CTX", 3)
    found = copy(
        words(*base, *fast),
        words(*base, "--replace", *fast),
        words(*base, "--replace", *fast),
        words(*base, "--eval-only", *fast, trainer="CoOp@coop_original"),
        words(*base, *fast, trainer="CoOp@coop"),
        words("--no-train", trainer="CoCoOp"),
        words("--no-train", "--replace", trainer="CoCoOp"),
        words("--no-train", dataset="demo_v2", trainer="ZeroshotCLIP"),
        words("--replace", *base, dataset="demo_v2", trainer="ZeroshotCLIP"),
    )
    codes, said = zip(*found["answers"], strict=True)
    assert "trainers/coop.py and trainers/coop_original.py bring a trainer CoOp" in codes[0]
    assert codes[1:6] == (None,) * 5
    assert "the original, 3 vectors" in said[1]
    assert "CoOp@coop_original/demo" in said[2] and "is finished already" in said[2]
    assert "trainers.coop" in found["bases"] and "trainers.coop_original" not in found["bases"]
    assert "--replace: no file of your own in trainers/ registers a CoCoOp" in codes[6]
    assert "datasets/demo.py and datasets/v2_original.py bring a data set DemoV2" in codes[7]
    assert codes[8] is None

    runs = {path.parent: result(path.parent) for path in (copy.project / "output").rglob("result.json")}
    by_place = {"/".join((*folder.parts[-7:-5], folder.parts[-3])): run for folder, run in runs.items()}
    theirs = by_place["base2new/train_base/CoOp@coop_original"]
    ours = by_place["base2new/train_base/CoOp"]
    assert (theirs["trainer"], ours["trainer"]) == ("CoOp@coop_original", "CoOp")
    assert theirs["trainable_params"] == 49 * theirs["num_classes"]  # 48 weights and a bias for each class
    assert ours["trainable_params"] == 4 * 64  # the four words of the recipe's phrase
    test = by_place["base2new/test_new/CoOp@coop_original"]
    assert test["model_digest"] == theirs["config_digest"] != ours["config_digest"]
    other = by_place["base2new/train_base/ZeroshotCLIP"]
    assert other["dataset"] == "DemoV2@v2_original"
    assert other["dataset_file"] == "demo_v2@v2_original"


def test_a_plan_of_runs_means_the_shipped_class(copy):
    code = (
        "from grid.plan import plan; from grid.spec import Spec\n"
        "(run,) = plan([(Spec('CoOp', 'base2new', 'demo', 16, 1), ())], 'output', 'data').values()\n"
        "import sys; assert 'torch' not in sys.modules; print(run.name, run.command[3])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=copy.project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["base2new/train_base/demo/shots_16/CoOp/demo/seed1", "CoOp@coop"]


def test_the_flag_is_part_of_the_command_that_a_test_prints():
    from launch.arguments import command_line

    assert "--replace" in command_line(parse_args(["--trainer", "CoOp", "--replace"]))
    assert "--replace" not in command_line(parse_args(["--trainer", "CoOp"]))

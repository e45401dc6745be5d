"""What is installed: the requirement files, the editable clone and the wheel of `clipfit` alone."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clipfit
from clipfit import cli

PROJECT = Path(__file__).parent.parent
LIBRARY = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
# clipfit/clip_package.py imports it once a trainer file of another repository has imported `clip`.
FOR_PLUGINS = {"packaging"}
OPTIONAL = {"gdown", "pyarrow"}  # what needs them says how to install them
OPEN_CLIP = "requirements-openclip.txt"  # what clipfit/families/open_clip.py imports where it is named

# The requirement files ------------------------------------------------------------------------------


def lines(name):
    text = (PROJECT / name).read_text(encoding="utf-8")
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


def requirements(name):
    """The requirements of a file: canonical name -> specifier."""
    found = [Requirement(line) for line in lines(name) if not line.startswith("-r")]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in found}


def imported(files):
    """Packages to install, by their canonical names, that these Python files import anywhere."""
    ours = {path.stem for path in PROJECT.iterdir()} | sys.stdlib_module_names
    modules = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.split(".")[0])
    packages = metadata.packages_distributions()
    return {canonicalize_name(packages.get(module, [module])[0]) for module in modules - ours} - OPTIONAL


def code(*folders):
    return [file for folder in folders for file in sorted((PROJECT / folder).rglob("*.py"))]


REPORT = ["paper", "papers", "report"]
TRAINING = ["benchmarks", "clipfit", "dassl", "datasets", "grid", "launch", "scripts", "trainers"]
TRAINING.append("report/pages")  # a run may leave its page


def test_training_needs_requirements_txt_alone():
    needed = imported([*code(*TRAINING), PROJECT / "train.py", PROJECT / "parse_test_res.py"])
    optional = {*requirements("requirements-ray.txt"), *requirements(OPEN_CLIP)}
    assert needed - optional <= set(requirements("requirements.txt"))


def test_nothing_of_ours_imports_the_clip_package():
    assert not {"clip-anytorch", "setuptools"} & imported(code(*TRAINING, *REPORT))


def test_reports_need_what_requirements_report_adds():
    needed = imported([*code(*REPORT), PROJECT / "reproduce.py"])
    added = set(requirements("requirements-report.txt"))
    assert added <= needed <= added | set(requirements("requirements.txt"))


def test_development_needs_what_requirements_dev_adds():
    everything = {"-r requirements.txt", "-r requirements-report.txt", "-r requirements-export.txt"}
    assert everything <= set(lines("requirements-dev.txt"))
    names = ("report", "export", "dev", "ray")
    files = ["requirements.txt", OPEN_CLIP, *(f"requirements-{name}.txt" for name in names)]
    packages = {
        canonicalize_name(name) for names in metadata.packages_distributions().values() for name in names
    }
    needed = imported(code("tests")) & packages  # tests also import files that they write
    assert needed <= {name for file in files for name in requirements(file)}


def test_the_library_names_what_it_imports_and_nothing_else():
    named = {canonicalize_name(Requirement(line).name) for line in LIBRARY}
    assert named == imported(code("clipfit")) - FOR_PLUGINS - set(requirements(OPEN_CLIP))


def test_the_library_and_requirements_txt_give_the_same_bounds():
    for requirement in map(Requirement, LIBRARY):
        assert requirements("requirements.txt")[canonicalize_name(requirement.name)] == requirement.specifier


@pytest.mark.parametrize("file", sorted(path.name for path in PROJECT.glob("requirements*.txt")))
def test_constraints_give_one_version_within_every_bound(file):
    tested = {name: list(specifier) for name, specifier in requirements("constraints.txt").items()}
    for name, bounds in requirements(file).items():
        (pin,) = tested[name]
        assert pin.operator == "==" and bounds.contains(pin.version), name


# The command and the package ------------------------------------------------------------------------


def test_the_command_prints_its_versions(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    version = ".".join(map(str, sys.version_info[:3]))
    expected = f"clipfit {clipfit.__version__} (torch {metadata.version('torch')}, Python {version})\n"
    assert capsys.readouterr().out == expected


def test_the_command_alone_prints_its_help(capsys):
    cli.main([])
    assert "--version" in capsys.readouterr().out


WITHOUT_PACKAGES = "-S"  # the standard library alone: nothing that the environment has installed


def python(code, folder, cwd, *options):
    """Run `code` in another directory, with `folder` as a folder of installed packages before the others."""
    start = f"import site, sys; sys.path.insert(0, {str(folder)!r}); site.addsitedir({str(folder)!r})\n"
    command = [sys.executable, "-I", *options, "-c", start + code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", ["clipfit", "clipfit.cli", "clipfit.io", "clipfit.backbones"])
def test_this_imports_where_no_torch_is_installed(module, tmp_path):
    assert module in python(f"import {module}; print(*sys.modules)", PROJECT, tmp_path, WITHOUT_PACKAGES)


# The builds -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the sources, so that a build leaves nothing in them and finds nothing of an earlier one."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "data", "output")
    return shutil.copytree(PROJECT, tmp_path_factory.mktemp("clone") / "sources", ignore=left_out)


def unpacked(folder):
    """The one wheel in `folder`, unpacked into an empty folder beside it."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    """What `pip wheel` makes of the clone, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    how = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(clone)]
    subprocess.run([sys.executable, *how], check=True, capture_output=True)
    return unpacked(folder)


@pytest.fixture(scope="module")
def editable(clone, tmp_path_factory):
    """What `pip install --editable` lays into an environment, unpacked."""
    folder = tmp_path_factory.mktemp("editable")
    hook = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", hook, str(folder)], cwd=clone, check=True, capture_output=True)
    return unpacked(folder)


@pytest.mark.slow
def test_the_wheel_holds_clipfit_and_its_metadata_only(wheel, clone):
    assert {path.name for path in wheel.iterdir()} == {"clipfit", f"clipfit-{clipfit.__version__}.dist-info"}
    files = {path.relative_to(wheel) for path in (wheel / "clipfit").rglob("*") if path.is_file()}
    ours = [file for kind in ("*.py", "*.pt", "bpe_*") for file in (clone / "clipfit").rglob(kind)]
    assert files == {path.relative_to(clone) for path in ours}


@pytest.mark.slow
def test_the_wheel_says_what_it_is_and_needs(wheel):
    (folder,) = wheel.glob("*.dist-info")
    about = metadata.Distribution.at(folder)
    assert (about.metadata["Name"], about.version) == ("clipfit", clipfit.__version__)
    assert about.metadata["License-Expression"] == "MIT" and list(folder.rglob("LICENSE"))
    assert about.metadata["Requires-Python"] == ">=3.11"
    assert about.metadata["Summary"] and about.metadata["Description"].startswith("# CLIPFit")
    assert set(map(Requirement, about.requires)) == set(map(Requirement, LIBRARY))
    (command,) = about.entry_points
    assert (command.name, command.group, command.load()) == ("clipfit", "console_scripts", cli.main)


@pytest.mark.slow
def test_every_module_of_the_wheel_and_its_backbone_load_without_the_clone(wheel, tmp_path):
    files = (path.relative_to(wheel).with_suffix("") for path in (wheel / "clipfit").rglob("*.py"))
    names = sorted(".".join(file.parts).removesuffix(".__init__") for file in files)
    code = f"""
import {", ".join(names)}
clipfit.loading.load_clip("demo")
assert clipfit.tokenizer.encode("a cat") == [320, 2368]
print(*(getattr(module, "__file__", None) for module in list(sys.modules.values())))
"""
    loaded = [Path(file) for file in python(code, wheel, tmp_path) if file != "None"]
    assert len([file for file in loaded if file.is_relative_to(wheel / "clipfit")]) == len(names)
    environment = Path(sys.prefix)
    for file in loaded:
        assert not file.is_relative_to(PROJECT) or file.is_relative_to(environment), file


@pytest.mark.slow
def test_an_editable_clone_gives_clipfit_and_none_of_its_other_folders(editable, clone, tmp_path):
    ours = {path.stem for path in clone.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}
    assert {"clipfit", "datasets", "dassl", "trainers", "launch", "train"} <= ours
    code = f"""
import importlib.util
for name in {sorted(ours)}:
    spec = importlib.util.find_spec(name)
    if spec is not None:
        print(name, spec.origin or spec.submodule_search_locations[0])
"""
    words = python(code, editable, tmp_path, WITHOUT_PACKAGES)
    found = dict(zip(words[::2], words[1::2], strict=True))
    assert found.pop("clipfit") == str(clone / "clipfit" / "__init__.py")
    assert not [origin for origin in found.values() if Path(origin).is_relative_to(clone)]


@pytest.mark.slow
def test_an_editable_clone_finds_new_files(editable, clone, tmp_path):
    (clone / "clipfit" / "new_file.py").write_text("")
    python("import clipfit.new_file", editable, tmp_path, WITHOUT_PACKAGES)

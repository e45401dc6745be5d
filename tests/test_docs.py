"""What the documents point to is there: files, sections, and the paths that they and messages name."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
DOCUMENTS = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("paper/**/*.md")]
OURS = ("[!.]*/*.py", "[!.]*/*.md", "[!.]*/*/*.yaml")  # what tells a folder of the project from a user's own
FOUND = {path.relative_to(PROJECT).parts[0] for kind in OURS for path in PROJECT.glob(kind)}
FOLDERS = sorted(FOUND | {"tests"})
PATH = rf"(?<![\w/.<>{{}}-])((?:models|{'|'.join(FOLDERS)})/[\w/.-]+\.(?:py|md|yaml|csv|sh|json|png))\b"

# Files that examples tell a reader to make.
EXAMPLES = {  # of files that a reader makes
    *("trainers/feature_scale.py", "trainers/coop_original.py"),
    *("datasets/myphotos.py", "datasets/myphotos.yaml", "configs/datasets/myphotos.yaml"),
    *("datasets/birds.py", "datasets/birds.yaml", "configs/datasets/birds.yaml"),
    *("tests/datasets/test_birds.py", "tests/trainers/test_feature_scale.py"),
    *("configs/trainers/FeatureScale.yaml", "configs/recipes/FeatureScale/base2new.yaml"),
    "scripts/feature_scale/base2new_train.sh",
}


def name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def sections(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def broken_links(document: Path) -> list[str]:
    """Relative links to a file or a section that does not exist."""
    broken = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(document)):
        file, _, section = link.partition("#")
        target = document.parent / file if file else document
        if not target.exists() or (section and section not in sections(target)):
            broken.append(link)
    return broken


def missing_paths(file: Path) -> list[str]:
    """Paths of the project that a text names and that do not exist."""
    named = re.findall(PATH, file.read_text(encoding="utf-8"))
    return [path for path in named if path not in EXAMPLES and not (PROJECT / path).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(document):
    assert broken_links(document) == []


def test_every_path_that_is_named_exists():
    folders = [PROJECT / folder for folder in FOLDERS if folder != "tests"]
    kinds = (".py", ".yaml", ".sh", ".html")
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    texts += [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # which names what is no more
    texts += [*PROJECT.glob("*.py"), PROJECT / "Makefile"]
    assert len(texts) > 200
    assert {name(text): missing for text in texts if (missing := missing_paths(text))} == {}


def test_contributing_shows_every_room_once():
    """Its tree has a line per folder, per package below one, and per program."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"```\n(.*?)```", text, re.DOTALL)[1]
    shown, folder = [], ""
    for indent, room in re.findall(r"^( *)([\w./]+)  +\S", tree, re.MULTILINE):
        folder = folder if indent else room
        shown.append(folder + room if indent else room)
    packages = [path.parent for folder in FOLDERS for path in PROJECT.glob(f"{folder}/*/__init__.py")]
    expected = [f"{folder}/" for folder in FOLDERS] + [f"{name(package)}/" for package in packages]
    expected += [path.name for path in PROJECT.glob("*.py")]
    assert sorted(shown) == sorted(expected)


def test_links_that_lead_nowhere_are_found(tmp_path):
    document = tmp_path / "a.md"
    document.write_text(
        "# A title: `code`, and more\n"
        "[a](a.md) [b](b.md) [c](#a-title-code-and-more) [d](a.md#none) [e](#none)\n"
        "[f](https://there.org/x.md) see trainers/clipfit.py and models/clip.py\n"
        "```\n# no heading\n```\n[g](#no-heading)\n"
    )
    assert broken_links(document) == ["b.md", "a.md#none", "#none", "#no-heading"]
    assert missing_paths(document) == ["models/clip.py"]

"""The fifteen data sets of CoOp's benchmark as facts: how they lie, how big they are, where they come from.

Plain data, read by `python -m datasets.prepare` and `python -m datasets.doctor`; the loaders do not need it.
Counts are those of the published split files and of the publishers. Checksums of archives are the ones that
torchvision checks; those of split files stand in `published.json`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dassl.utils import unknown_name

PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Source:
    """One file to fetch into the data set's folder, and what it gives there once unpacked.

    `file` is the name under which the file is kept, also when a user puts it there by hand. `gives` is what
    must exist (relative to the data set's folder) for the source to count as done; the file itself if empty.
    """

    file: str
    urls: tuple[str, ...] = ()  # tried in order; none: `by_hand` says where to get the file
    drive: str = ""  # id of a file on Google Drive
    md5: str = ""  # published checksum of the file; "": none is known for certain
    gives: tuple[str, ...] = ()
    take: str = ""  # folder inside the archive, at any depth, whose content is wanted; "": all of it
    to: str = ""  # where that content goes, relative to the data set's folder
    inner: str = ""  # archive inside the archive, which holds the content
    unpack: str = "folder"  # how: a key of prepare.UNPACK
    by_hand: str = ""  # where a person gets the file when no link leads to it
    optional: bool = False  # needed only where the split file is missing
    needs: str = ""  # another source's file without which this one cannot be unpacked
    shared_with: str = ""  # a sibling data set's folder that may hold the same file already

    @property
    def results(self) -> tuple[str, ...]:
        return self.gives or (self.file,)


@dataclass(frozen=True)
class Entry:
    """One data set. Paths are relative to its folder, which is relative to the data root."""

    name: str  # module under datasets/ and configs/datasets/
    registry: str  # DATASET.NAME
    folder: str
    images: tuple[str, ...]  # folders that hold images; "": the folder itself
    classes: int
    train: int | None  # None: the test images
    val: int | None  # None: the test images, or there are none
    test: int
    sources: tuple[Source, ...]
    split: str = ""  # file name of CoOp's split
    files: tuple[str, ...] = ()  # other files without which nothing loads
    instead_of_split: tuple[str, ...] = ()  # from which the split is made where its file is missing
    other_names: tuple[str, ...] = ()  # how other repositories call the folder
    homepage: str = ""

    @property
    def published(self) -> dict:
        """What `published()` holds for it; any key may be absent."""
        return published().get(self.registry, {})


def find(name: str) -> Entry:
    """The entry of a module (`dtd`) or registry name (`DescribableTextures`), in any case.

    Raises: ValueError naming the nearest
    """
    for entry in ENTRIES:
        if name.casefold() in (entry.name.casefold(), entry.registry.casefold()):
            return entry
    raise ValueError(unknown_name("data set", name, [entry.name for entry in ENTRIES]))


@cache
def published() -> dict[str, dict]:
    """Registry name -> `split_sha256`, `classnames_sha256` and `fewshot`, CoOp's picks.

    `fewshot` maps "<shots>-<seed>" to the digests of the train and val lists; digests as `list_digest` makes
    them, of class names in label order and of paths relative to the image folder.
    """
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))


SPLITS = "a copy lies in https://github.com/linzhiqiu/cross_modal_adaptation under splits/"


def _split(registry: str, drive: str) -> Source:
    return Source(file=f"split_zhou_{registry}.json", drive=drive, by_hand=SPLITS)


CLASSNAMES = Source(file="classnames.txt", drive="1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", shared_with="imagenet")
VGG = "https://www.robots.ox.ac.uk/~vgg/data/"
CARS = (
    "the original pages are gone; https://github.com/pytorch/vision/issues/7545 collects replacements "
    "(only the original archive fits the split: some re-uploads rename the images)"
)
IMAGENET = "log in at https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"

ENTRIES = (
    Entry(
        name="imagenet",
        registry="ImageNet",
        folder="imagenet",
        images=("images/train", "images/val"),
        classes=1000,
        train=1_281_167,
        val=None,
        test=50_000,
        files=("classnames.txt",),
        other_names=("ImageNet", "ILSVRC2012", "imagenet-1k", "imagenet1k"),
        homepage="https://image-net.org",
        sources=(
            CLASSNAMES,
            Source(
                file="ILSVRC2012_img_train.tar",
                md5="1d675b47d978889d74fa0da5fadfb00e",
                gives=("images/train",),
                unpack="imagenet_train",
                by_hand=f"{IMAGENET}, 'Training images (Task 1 & 2)', 138 GB",
            ),
            Source(
                file="ILSVRC2012_devkit_t12.tar.gz",
                md5="fa75699e90414af021442c21a62c3abf",
                gives=("images/val",),
                unpack="keep",
                by_hand=f"{IMAGENET}, 'Development kit (Task 1 & 2)', which names the classes of those",
            ),
            Source(
                file="ILSVRC2012_img_val.tar",
                md5="29b22e2961454d5413ddabcf34fc5622",
                gives=("images/val",),
                unpack="imagenet_val",
                needs="ILSVRC2012_devkit_t12.tar.gz",
                by_hand=f"{IMAGENET}, 'Validation images (all tasks)', 6.3 GB",
            ),
        ),
    ),
    Entry(
        name="caltech101",
        registry="Caltech101",
        folder="caltech-101",
        images=("101_ObjectCategories",),
        classes=100,
        train=4128,
        val=1649,
        test=2465,
        split="split_zhou_Caltech101.json",
        other_names=("Caltech101", "caltech101"),
        homepage="https://data.caltech.edu/records/20086",
        sources=(
            Source(
                file="caltech-101.zip",
                urls=("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
                md5="3138e1922a9193bfa496528edbbc45d0",
                gives=("101_ObjectCategories",),
                take="101_ObjectCategories",
                to="101_ObjectCategories",
                inner="101_ObjectCategories.tar.gz",
            ),
            _split("Caltech101", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),
        ),
    ),
    Entry(
        name="oxford_pets",
        registry="OxfordPets",
        folder="oxford_pets",
        images=("images",),
        classes=37,
        train=2944,
        val=736,
        test=3669,
        split="split_zhou_OxfordPets.json",
        instead_of_split=("annotations/trainval.txt", "annotations/test.txt"),
        other_names=("OxfordPets", "oxford-iiit-pet", "pets"),
        homepage=f"{VGG}pets/",
        sources=(
            Source(
                file="images.tar.gz",
                urls=(f"{VGG}pets/data/images.tar.gz",),
                md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
                gives=("images",),
                take="images",
                to="images",
            ),
            Source(
                file="annotations.tar.gz",
                urls=(f"{VGG}pets/data/annotations.tar.gz",),
                md5="95a8c909bbe2e81eed6a22bccdf3f68f",
                gives=("annotations",),
                take="annotations",
                to="annotations",
                optional=True,
            ),
            _split("OxfordPets", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),
        ),
    ),
    Entry(
        name="stanford_cars",
        registry="StanfordCars",
        folder="stanford_cars",
        images=("cars_train", "cars_test"),
        classes=196,
        train=6509,
        val=1635,
        test=8041,
        split="split_zhou_StanfordCars.json",
        instead_of_split=(
            "devkit/cars_train_annos.mat",
            "devkit/cars_meta.mat",
            "cars_test_annos_withlabels.mat",
        ),
        other_names=("StanfordCars", "stanford-cars", "cars", "cars196"),
        homepage="https://github.com/pytorch/vision/issues/7545",
        sources=(
            Source(
                file="cars_train.tgz",
                md5="065e5b463ae28d29e77c1b4b166cfe61",
                gives=("cars_train",),
                take="cars_train",
                to="cars_train",
                by_hand=CARS,
            ),
            Source(
                file="cars_test.tgz",
                md5="4ce7ebf6a94d07f1952d94dd34c4d501",
                gives=("cars_test",),
                take="cars_test",
                to="cars_test",
                by_hand=CARS,
            ),
            Source(
                file="car_devkit.tgz",
                md5="c3b158d763b6e2245038c8ad08e45376",
                gives=("devkit",),
                take="devkit",
                to="devkit",
                by_hand=CARS,
                optional=True,
            ),
            Source(
                file="cars_test_annos_withlabels.mat",
                md5="b0a2b23655a3edd16d84508592a98d10",
                by_hand=CARS,
                optional=True,
            ),
            _split("StanfordCars", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
        ),
    ),
    Entry(
        name="oxford_flowers",
        registry="OxfordFlowers",
        folder="oxford_flowers",
        images=("jpg",),
        classes=102,
        train=4093,
        val=1633,
        test=2463,
        split="split_zhou_OxfordFlowers.json",
        instead_of_split=("imagelabels.mat", "cat_to_name.json"),
        other_names=("Flower102", "Flowers102", "flowers-102", "flowers102", "OxfordFlowers"),
        homepage=f"{VGG}flowers/102/",
        sources=(
            Source(
                file="102flowers.tgz",
                urls=(f"{VGG}flowers/102/102flowers.tgz",),
                md5="52808999861908f626f3c1f4e79d11fa",
                gives=("jpg",),
                take="jpg",
                to="jpg",
            ),
            Source(
                file="imagelabels.mat",
                urls=(f"{VGG}flowers/102/imagelabels.mat",),
                md5="e0620be6f572b9609742df49c70aed4d",
                optional=True,
            ),
            Source(file="cat_to_name.json", drive="1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0", optional=True),
            _split("OxfordFlowers", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),
        ),
    ),
    Entry(
        name="food101",
        registry="Food101",
        folder="food-101",
        images=("images",),
        classes=101,
        train=50_500,
        val=20_200,
        test=30_300,
        split="split_zhou_Food101.json",
        other_names=("Food101", "food101"),
        homepage="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        sources=(
            Source(
                file="food-101.tar.gz",
                urls=("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
                md5="85eeb15f3717b99a5da872d97d918f87",
                gives=("images",),
                take="food-101",
            ),
            _split("Food101", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
        ),
    ),
    Entry(
        name="fgvc_aircraft",
        registry="FGVCAircraft",
        folder="fgvc_aircraft",
        images=("images",),
        classes=100,
        train=3334,
        val=3333,
        test=3333,
        files=(
            "variants.txt",
            "images_variant_train.txt",
            "images_variant_val.txt",
            "images_variant_test.txt",
        ),
        other_names=("fgvc-aircraft", "fgvc-aircraft-2013b", "FGVCAircraft", "aircraft"),
        homepage=f"{VGG}fgvc-aircraft/",
        sources=(
            Source(
                file="fgvc-aircraft-2013b.tar.gz",
                urls=(f"{VGG}fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
                gives=("images", "variants.txt"),
                take="data",
            ),
        ),
    ),
    Entry(
        name="sun397",
        registry="SUN397",
        folder="sun397",
        images=("SUN397",),
        classes=397,
        train=15_880,
        val=3970,
        test=19_850,
        split="split_zhou_SUN397.json",
        instead_of_split=("ClassName.txt", "Training_01.txt", "Testing_01.txt"),
        other_names=("SUN397",),
        homepage="https://vision.princeton.edu/projects/2010/SUN/",
        sources=(
            Source(
                file="SUN397.tar.gz",
                urls=("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",),
                md5="8ca2778205c41d23104230ba66911c7a",
                gives=("SUN397",),
                take="SUN397",
                to="SUN397",
                by_hand="https://huggingface.co/zhengli97/prompt_learning_dataset holds a copy",
            ),
            Source(
                file="Partitions.zip",
                urls=("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",),
                gives=("ClassName.txt", "Training_01.txt", "Testing_01.txt"),
                optional=True,
            ),
            _split("SUN397", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
        ),
    ),
    Entry(
        name="dtd",
        registry="DescribableTextures",
        folder="dtd",
        images=("images",),
        classes=47,
        train=2820,
        val=1128,
        test=1692,
        split="split_zhou_DescribableTextures.json",
        other_names=("DTD", "dtd-r1.0.1", "DescribableTextures"),
        homepage=f"{VGG}dtd/",
        sources=(
            Source(
                file="dtd-r1.0.1.tar.gz",
                urls=(f"{VGG}dtd/download/dtd-r1.0.1.tar.gz",),
                md5="fff73e5086ae6bdbea199a49dfb8a4c1",
                gives=("images",),
                take="dtd",
            ),
            _split("DescribableTextures", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),
        ),
    ),
    Entry(
        name="eurosat",
        registry="EuroSAT",
        folder="eurosat",
        images=("2750",),
        classes=10,
        train=13_500,
        val=5400,
        test=8100,
        split="split_zhou_EuroSAT.json",
        other_names=("EuroSAT", "eurosat_rgb", "EuroSAT_RGB"),
        homepage="https://github.com/phelber/eurosat",
        sources=(
            Source(
                file="EuroSAT.zip",
                urls=(
                    "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
                    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                    "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                ),
                md5="c8fa014336c82ac7804f0398fcb19387",
                gives=("2750",),
                take="2750",
                to="2750",
                by_hand="https://zenodo.org/record/7711810 has it too",
            ),
            _split("EuroSAT", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),
        ),
    ),
    Entry(
        name="ucf101",
        registry="UCF101",
        folder="ucf101",
        images=("UCF-101-midframes",),
        classes=101,
        train=7639,
        val=1898,
        test=3783,
        split="split_zhou_UCF101.json",
        instead_of_split=(
            "ucfTrainTestlist/classInd.txt",
            "ucfTrainTestlist/trainlist01.txt",
            "ucfTrainTestlist/testlist01.txt",
        ),
        other_names=("UCF101", "UCF-101"),
        homepage="https://www.crcv.ucf.edu/data/UCF101.php",
        sources=(
            Source(
                file="UCF-101-midframes.zip",
                drive="10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",
                gives=("UCF-101-midframes",),
                take="UCF-101-midframes",
                to="UCF-101-midframes",
            ),
            Source(
                file="UCF101TrainTestSplits-RecognitionTask.zip",
                urls=("https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",),
                gives=("ucfTrainTestlist",),
                take="ucfTrainTestlist",
                to="ucfTrainTestlist",
                optional=True,
            ),
            _split("UCF101", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
        ),
    ),
    Entry(
        name="imagenetv2",
        registry="ImageNetV2",
        folder="imagenetv2",
        images=("imagenetv2-matched-frequency-format-val",),
        classes=1000,
        train=None,
        val=None,
        test=10_000,
        files=("classnames.txt",),
        other_names=("ImageNetV2", "imagenet-v2", "imagenet_v2"),
        homepage="https://huggingface.co/datasets/vaishaal/ImageNetV2",
        sources=(
            CLASSNAMES,
            Source(
                file="imagenetv2-matched-frequency.tar.gz",
                urls=(
                    "https://s3-us-west-2.amazonaws.com/imagenetv2public/imagenetv2-matched-frequency.tar.gz",
                    "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                ),
                gives=("imagenetv2-matched-frequency-format-val",),
                take="imagenetv2-matched-frequency-format-val",
                to="imagenetv2-matched-frequency-format-val",
            ),
        ),
    ),
    Entry(
        name="imagenet_sketch",
        registry="ImageNetSketch",
        folder="imagenet-sketch",
        images=("images",),
        classes=1000,
        train=None,
        val=None,
        test=50_889,
        files=("classnames.txt",),
        other_names=("ImageNet-Sketch", "imagenet_sketch", "sketch"),
        homepage="https://github.com/HaohanWang/ImageNet-Sketch",
        sources=(
            CLASSNAMES,
            Source(
                file="ImageNet-Sketch.zip",
                gives=("images",),
                take="sketch",
                to="images",
                by_hand="https://github.com/HaohanWang/ImageNet-Sketch links to it",
            ),
        ),
    ),
    Entry(
        name="imagenet_a",
        registry="ImageNetA",
        folder="imagenet-adversarial",
        images=("imagenet-a",),
        classes=200,
        train=None,
        val=None,
        test=7500,
        files=("classnames.txt",),
        other_names=("imagenet-a", "imagenet_a", "ImageNet-A"),
        homepage="https://github.com/hendrycks/natural-adv-examples",
        sources=(
            CLASSNAMES,
            Source(
                file="imagenet-a.tar",
                urls=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",),
                gives=("imagenet-a",),
                take="imagenet-a",
                to="imagenet-a",
                by_hand="https://github.com/hendrycks/natural-adv-examples links to it",
            ),
        ),
    ),
    Entry(
        name="imagenet_r",
        registry="ImageNetR",
        folder="imagenet-rendition",
        images=("imagenet-r",),
        classes=200,
        train=None,
        val=None,
        test=30_000,
        files=("classnames.txt",),
        other_names=("imagenet-r", "imagenet_r", "ImageNet-R"),
        homepage="https://github.com/hendrycks/imagenet-r",
        sources=(
            CLASSNAMES,
            Source(
                file="imagenet-r.tar",
                urls=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",),
                gives=("imagenet-r",),
                take="imagenet-r",
                to="imagenet-r",
                by_hand="https://github.com/hendrycks/imagenet-r links to it",
            ),
        ),
    ),
)

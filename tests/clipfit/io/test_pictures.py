"""Pictures of every kind, sound and damaged, as they are read."""

import struct

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from clipfit.io.pictures import image_size, is_picture, read_image

ORIENTATION = 0x0112  # EXIF
QUARTER_TURN = 6  # to be turned clockwise by 90 degrees


@pytest.fixture
def phone(tmp_path):
    """A picture of 40 x 20 pixels, red on the left, that is to be turned upright."""
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    image.save(tmp_path / "phone.png", exif=exif)
    return tmp_path / "phone.png"


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm"])
def test_greys_of_16_bits_keep_their_upper_8(name, tmp_path):
    greys = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(greys).save(tmp_path / name)
    pixels = np.asarray(read_image(tmp_path / name))
    assert pixels.shape == (256, 256, 3)
    assert (pixels == (np.arange(65536) // 256).reshape(256, 256, 1)).all()


@pytest.mark.parametrize(
    "kind, message", [(np.float32, "pixels are floats"), (np.int32, "pixels are integers of an unk")]
)
def test_pixels_of_an_unknown_range_are_refused(kind, message, tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=kind)).save(tmp_path / "odd.tif")
    with pytest.raises(OSError, match=rf"odd\.tif cannot be read as an image \(its {message}"):
        read_image(tmp_path / "odd.tif")


def test_postscript_starts_no_other_program(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **more: pytest.fail("Ghostscript runs"))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.jpg", format="EPS")
    with pytest.raises(OSError, match=r"picture\.jpg cannot be read as an image \(it is not of the formats"):
        read_image(tmp_path / "picture.jpg")


def avif():
    return b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40)


def dds():
    return b"DDS \x7c\0\0\0" + bytes(30)


def bomb():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4)


def tiff():
    return b"II*\0\x08\0\0\0\x02\0\x00\x01\x04\0\x01\0\0\0\x04"


@pytest.mark.parametrize("content", [avif, dds, bomb, tiff, lambda: b"", lambda: b"GIF89a"])
def test_damage_of_any_kind_is_one_line_with_the_path(content, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content())
    for read in (read_image, image_size):
        with pytest.raises(OSError) as caught:
            read(tmp_path / "a.jpg")
        assert str(caught.value).startswith(f"{tmp_path}/a.jpg cannot be read as an image (")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "problem", [struct.error("4 bytes"), IndexError(), AssertionError(), RuntimeError("two\nlines")]
)
def test_whatever_a_decoder_raises_is_one_line_with_the_path(problem, tmp_path, monkeypatch):
    def fail(self):
        raise problem

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(
        OSError, match=r"a\.png cannot be read as an image \((4 bytes|\w+Error|two lines)\); rep"
    ):
        read_image(tmp_path / "a.png")


def test_nothing_else_happens_to_a_published_picture(phone, tmp_path):
    Image.new("RGBA", (4, 4), (10, 200, 30, 0)).save(tmp_path / "clear.png")
    for path in (phone, tmp_path / "clear.png"):
        with Image.open(path) as image:
            assert np.array_equal(read_image(path), image.convert("RGB"))
    assert image_size(phone) == read_image(phone).size == (40, 20)


def test_own_pictures_stand_upright_on_white(phone, tmp_path):
    turned = read_image(phone, upright=True)
    assert turned.size == image_size(phone, upright=True) == (20, 40)
    assert turned.getpixel((10, 5)) == (255, 0, 0) and turned.getpixel((10, 35)) == (0, 0, 255)

    Image.new("RGBA", (4, 4), (10, 200, 30, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png", upright=True).getpixel((0, 0)) == (255, 255, 255)
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert read_image(tmp_path / "half.png", upright=True).getpixel((0, 0)) == (127, 127, 127)
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    Image.fromarray(np.full((2, 4), 30_000, dtype=np.uint16)).save(tmp_path / "grey.png", exif=exif)
    assert read_image(tmp_path / "grey.png", upright=True).getpixel((0, 3)) == (117, 117, 117)


@pytest.mark.parametrize("name", ["a.jpg", "B.JPEG", "c.b.Png", "d.TIFF", "e.webp"])
def test_a_picture_has_a_pictures_suffix_in_any_case(name):
    assert is_picture(name)


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "notes.txt", "jpg", "a.jpg.part", ".hidden.jpg", "._a.jpg", "a.eps"]
)
def test_other_files_are_no_pictures(name):
    assert not is_picture(name)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("name", ["sideways.tif", "sideways.jpg"])
def test_the_size_that_is_told_is_that_of_the_picture_that_is_read(name, orientation, upright, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"compression": "tiff_lzw"} if name.endswith("tif") else {}
    Image.new("RGB", (20, 24)).save(tmp_path / name, exif=exif, **options)
    path = tmp_path / name
    assert image_size(path, upright) == read_image(path, upright).size


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_an_uncompressed_picture_on_its_side_has_the_pixels_of_a_compressed_one(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    greys = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20), dtype=np.uint8))
    for compression in ("raw", "tiff_lzw"):
        greys.save(tmp_path / f"{compression}.tif", compression=compression, exif=exif)
    raw, packed = (read_image(tmp_path / f"{name}.tif", upright=True) for name in ("raw", "tiff_lzw"))
    assert raw.size == packed.size == (24, 20) and raw.tobytes() == packed.tobytes()

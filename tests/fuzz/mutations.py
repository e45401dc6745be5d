"""Ways to damage a file: from a `random.Random` and the content of a good file to other content."""

import gzip
import io
import json
import random
import re
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import torch
import yaml

Mutate = Callable[[random.Random, bytes], bytes]

# Any bytes ------------------------------------------------------------------------------------------

FOREIGN = (
    b"<!DOCTYPE html><title>404</title>",
    b"\x89PNG\r\n\x1a\n" + bytes(40),
    b"PK\x05\x06" + bytes(18),
    b"\x1f\x8b\x08" + bytes(20),
    b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    b"%!PS\n(a) run\n",
    b"SQLite format 3\0" + bytes(100),
    b"[" * 100_000,
    b"a: " * 3_000,
    b"key,value\n1,2\n",
    bytes(1024),
)


def _span(rng: random.Random, content: bytes) -> slice:
    at = rng.randrange(len(content) + 1)
    return slice(at, at + int(2 ** rng.uniform(0, 10)))


def flip_bits(rng, content):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8)) if content else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng, content):
    return content[: rng.choice((rng.randrange(len(content) + 1), len(content) // 512 * 512 // 2, -1))]


def zero(rng, content):
    span = _span(rng, content)
    return content[: span.start] + bytes(len(content[span])) + content[span.stop :]


def insert_zeros(rng, content):
    at = rng.randrange(len(content) + 1)
    return content[:at] + bytes(rng.choice((1, 7, 512, 4096))) + content[at:]


def remove(rng, content):
    span = _span(rng, content)
    return content[: span.start] + content[span.stop :]


def repeat(rng, content):
    span = _span(rng, content)
    return content[: span.stop] + content[span] * rng.choice((1, 1, 50)) + content[span.stop :]


def swap(rng, content):
    first, second = sorted((_span(rng, content), _span(rng, content)), key=lambda span: span.start)
    between = content[first.stop : second.start]
    return content[: first.start] + content[second] + between + content[first] + content[second.stop :]


def overwrite(rng, content):
    span = _span(rng, content)
    return content[: span.start] + rng.randbytes(len(content[span])) + content[span.stop :]


def append(rng, content):
    return content + rng.choice((b"\n", b"\0", b"{}", bytes(700), rng.randbytes(50), content))


def replace_all(rng, content):
    return rng.choice((b"", content[:1], *FOREIGN))


BYTES = (flip_bits, flip_bits, cut, zero, insert_zeros, remove, repeat, swap, overwrite, append, replace_all)

# For readers in C that damage inside crashes: scipy's of MATLAB files.
OUTSIDE = (cut, append, replace_all)

# Text -----------------------------------------------------------------------------------------------


def byte_order_mark(rng, content):
    return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf\xef\xbb\xbf")) + content


def windows_lines(rng, content):
    return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"\xe2\x80\xa8")))


def other_encoding(rng, content):
    text = content.decode().replace("a", "ä")
    return text.encode(rng.choice(("latin-1", "utf-16", "utf-32", "utf-8")))


def strange_word(rng, content):
    """Put something strange in the place of a word or a number."""
    words = list(re.finditer(rb"[\w.+-]+", content))
    if not words:
        return content
    word = rng.choice(words)
    return content[: word.start()] + rng.choice(STRANGE_WORDS) + content[word.end() :]


STRANGE_WORDS = (
    *(b"", b"-1", b"1.5", b"1e999", b"9" * 5_000, b"NaN", b"-Infinity", b"null", b"true", b"0x10", b"1_000"),
    *(b"[" * 5_000, b'{"a":' * 5_000, b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"\x00", b"\x1b[2J"),
    *(b"../../../etc/passwd", b"/etc/passwd", b"C:\\x", b"..", b".", b"\xff\xfe", b"a b", b"%s{}"),
)
TEXT = (*BYTES, byte_order_mark, windows_lines, other_encoding, strange_word, strange_word, strange_word)

# Values: of JSON, JSON Lines, YAML ------------------------------------------------------------------

DEEP, HUGE = "DEEPLY-NESTED", "HUGE-NUMBER"  # what no writer writes: put into the text behind it
STRANGE = (
    *(None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), 101, "", "7", "a b", [], {}, [None]),
    *("\0", "\x1b[2J", "\ud800", "x" * 5_000, "../x", "/x", [[[]]], {"a": {"a": 1}}, {"": 0}, DEEP, HUGE),
)


def changed(rng: random.Random, value: Any) -> Any:
    """A copy of nested dicts and lists with one place changed: another value, one more, one less, swapped."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.05:
        return rng.choice(STRANGE)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, copy = rng.choice(keys), value.copy()
    kind = rng.randrange(8)
    if kind == 0:
        del copy[key]
    elif kind == 1 and isinstance(copy, list):
        copy.insert(key, rng.choice((value[key], *STRANGE)))
    elif kind == 1:
        copy[rng.choice(("", "x", f"{key}x", "\0", "<<", "_BASE_"))] = rng.choice((value[key], *STRANGE))
    elif kind == 2:
        other = rng.choice(keys)
        copy[key], copy[other] = value[other], value[key]
    else:
        copy[key] = changed(rng, value[key])
    return copy


def _with_what_no_writer_writes(text: str) -> bytes:
    for quote in ('"', "'", ""):
        text = text.replace(f"{quote}{DEEP}{quote}", "[" * 20_000 + "]" * 20_000)
        text = text.replace(f"{quote}{HUGE}{quote}", "9" * 5_000)
    return text.encode("utf-8", "surrogatepass")


def json_value(rng, content):
    ascii_only = rng.random() < 0.7
    return _with_what_no_writer_writes(
        json.dumps(changed(rng, json.loads(content)), ensure_ascii=ascii_only, indent=1)
    )


def json_line(rng, content):
    lines = content.decode().splitlines()
    if not lines:
        return content
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(changed(rng, json.loads(lines[at])))
    return _with_what_no_writer_writes("\n".join(lines) + "\n")


def json_lines(rng, content):
    """Remove, repeat, exchange or empty a line."""
    lines = content.splitlines(keepends=True)
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[at] = rng.choice((b"", lines[at] * 2, lines[other], b"\n", b"{}\n", b"[]\n", b"null\n"))
    return b"".join(lines)


def yaml_value(rng, content):
    return _with_what_no_writer_writes(yaml.safe_dump(changed(rng, yaml.safe_load(content)), sort_keys=False))


def yaml_text(rng, content):
    """Add what YAML has and a configuration does not need, in front or behind."""
    more = rng.choice(YAML_TEXTS)
    return more + content if rng.random() < 0.5 else content + more


YAML_TEXTS = (
    b"a: &a [1]\nb: *a\n",
    b"a: &a {<<: *a}\n",
    b"a: &a [*a]\n",
    b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)),
    b"when: 2020-99-99\n",
    b"when: 2020-01-01\n",
    b"? [a, b]\n: c\n",
    b"? {a: b}\n: c\n",
    b"what: !!python/object/apply:os.system [true]\n",
    b"what: !!binary '=='\n",
    b"what: !!set {a, b}\n",
    b"what: !!int 'x'\n",
    b"what: !!float ''\n",
    b"what: 1:99:99\n",
    b"what: .nan\n",
    b"what: 0b\n",
    b"---\n",
    b"...\nx\n",
    b"%YAML 9.9\n---\n",
    b"\tx: 1\n",
    b"- 1\n",
    b"<<: 1\n",
    b"1: 2\nnull: 3\ntrue: 4\n",
    b"name: a\nname: b\n",
    b"_BASE_: .\n",
    b"_BASE_: [missing.yaml]\n",
    b"_BASE_: /dev/zero\n",
    b'_BASE_: "a\\0b"\n',
    b"_BASE_: " + b"x" * 5_000 + b"\n",
    b"{" * 5_000,
)
JSON, JSON_LINES = (*TEXT, *[json_value] * 10), (*TEXT, *[json_line] * 8, *[json_lines] * 3)
YAML = (*TEXT, *[yaml_value] * 8, *[yaml_text] * 8)

# Zip and tar files ----------------------------------------------------------------------------------

# Places of the fields in a zip file's headers: offset -> bytes.
ZIP_FIELDS = {
    b"PK\x03\x04": {4: 2, 6: 2, 8: 2, 14: 4, 18: 4, 22: 4, 26: 2, 28: 2},
    b"PK\x01\x02": {4: 2, 6: 2, 8: 2, 10: 2, 16: 4, 20: 4, 24: 4, 28: 2, 30: 2, 32: 2, 34: 2, 38: 4, 42: 4},
    b"PK\x05\x06": {4: 2, 6: 2, 8: 2, 10: 2, 12: 4, 16: 4, 20: 2},
}
STRANGE_NAMES = (
    *(
        "../x",
        "a/../../x",
        "/x",
        "C:\\x",
        "..\\x",
        "a" * 300,
        "a/" * 60 + "x",
        "x\x1b[2J",
        "",
        ".",
        "a/.",
        "a//b",
    ),
    *(
        "\ud7ff",
        "ü" * 200,
        "code/x",
        "a/constants.pkl",
        "images",
        "images/a.txt",
        "images/a.txt/b",
        "NUL",
        "x/",
    ),
)


def zip_field(rng, content):
    """Set a field of a header: absurd sizes, flags such as encrypted, methods, places."""
    header, fields = rng.choice(list(ZIP_FIELDS.items()))
    found = [match.start() for match in re.finditer(re.escape(header), content)]
    if not found:
        return content
    at, size = rng.choice(list(fields.items()))
    at += rng.choice(found)
    value = rng.choice((0, 1, 8, 9, 12, 14, 99, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    return content[:at] + (value % (1 << 8 * size)).to_bytes(size, "little") + content[at + size :]


def zip_member(rng, content):
    """Write the archive anew with one member renamed, removed, doubled, packed, changed, or made a link."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    at, kind = rng.randrange(len(members)), rng.randrange(6)
    info, data = members[at]
    if kind == 0:
        renamed = zipfile.ZipInfo(rng.choice(STRANGE_NAMES) or "x")
        members[at] = renamed, data
    elif kind == 1:
        del members[at]
    elif kind == 2:
        members.insert(0, (info, rng.choice((data, b"", b"other"))))
    elif kind == 3:
        info.compress_type = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif kind == 4:
        members[at] = info, rng.choice((b"", data[: len(data) // 2], data + b"x", bytes(1 << 20)))
        info.compress_type = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
    else:
        info.external_attr = rng.choice((0o120777, 0o10644, 0o20644, 0o60644, 0o4755)) << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for info, data in members:
            archive.writestr(info, data)
    return made.getvalue()


def tar_member(rng, content):
    """Write the archive anew with one member renamed, or of another type or size, links among them."""
    packed = content.startswith(b"\x1f\x8b")
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=made, mode="w:gz" if packed else "w", format=rng.choice((1, 2))) as new,
    ):
        members = old.getmembers()
        strange = rng.choice(members)
        for member in members:
            data = old.extractfile(member)
            if member is strange:
                _make_strange(rng, member)
            with_data = data is not None and member.isreg()
            new.addfile(member, io.BytesIO(data.read().ljust(member.size, b"x")) if with_data else None)
    return made.getvalue()


def _make_strange(rng: random.Random, member: tarfile.TarInfo) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        member.name = rng.choice(STRANGE_NAMES)
    elif kind == 1:
        member.size = rng.choice((0, 1, member.size + 700))
    else:
        member.type = rng.choice((b"1", b"2", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"Z"))
        member.linkname = rng.choice((member.name, "images/b.txt", "images", "missing", *STRANGE_NAMES))


def tar_header(rng, content):
    """Set a byte of a header, with its check sum in order again."""
    packed = content.startswith(b"\x1f\x8b")
    content = bytearray(gzip.decompress(content) if packed else content)
    heads = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(heads)
    field, size = rng.choice(
        ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 6), (345, 155))
    )
    value = rng.choice(
        (b"\xff" * size, b"\x80" + b"\xff" * (size - 1), b"7" * size, b"x", bytes(size), b"-1")
    )
    content[at + field : at + field + len(value[:size])] = value[:size]
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return gzip.compress(bytes(content), mtime=0) if packed else bytes(content)


def unpacked(mutate: Mutate) -> Mutate:
    """The mutation of what a gzip file holds, with its check sums in order again."""
    return lambda rng, content: gzip.compress(mutate(rng, gzip.decompress(content)), mtime=0)


ZIP, TAR = (*BYTES, *[zip_field] * 8, *[zip_member] * 8), (*BYTES, *[tar_member] * 8, *[tar_header] * 6)

# Tensors --------------------------------------------------------------------------------------------


def tensors(rng, content):
    """Save what a checkpoint holds anew, with one place changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        packed = archive.infolist()[0].compress_type == zipfile.ZIP_DEFLATED
    state = _changed_tensors(rng, torch.load(io.BytesIO(content), weights_only=True))
    made, new_format = io.BytesIO(), rng.random() < 0.8
    torch.save(state, made, _use_new_zipfile_serialization=new_format)
    return repacked(made.getvalue()) if packed and new_format else made.getvalue()


def _changed_tensors(rng: random.Random, value: Any) -> Any:
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return rng.choice(STRANGE_TENSORS)(value)
    if isinstance(value, (dict, list, tuple)) and value and rng.random() > 0.05:
        copy = list(value) if isinstance(value, tuple) else value.copy()
        key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
        if rng.random() < 0.15:
            del copy[key]
        elif rng.random() < 0.1 and isinstance(copy, dict):
            copy[rng.choice((7, "x", "module.x", None, (1, 2)))] = copy.pop(key)
        else:
            copy[key] = _changed_tensors(rng, copy[key])
        return copy
    return rng.choice(
        (*STRANGE[:20], 1 << 80, -(1 << 80), torch.zeros(3), b"x", [0, 1], {"a": torch.zeros(2)})
    )


STRANGE_TENSORS = (
    lambda tensor: tensor.to(torch.float64),
    lambda tensor: tensor.to(torch.bfloat16),
    lambda tensor: tensor.to(torch.int32),
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor.to(torch.bool),
    lambda tensor: tensor.clone().double().fill_(float("nan")),
    lambda tensor: tensor.clone().float().fill_(float("inf")),
    lambda tensor: tensor.flatten(),
    lambda tensor: tensor[None],
    lambda tensor: tensor.flatten()[:0],
    lambda tensor: tensor.flatten()[:1].expand(1 << 40),
    lambda tensor: torch.cat([tensor.flatten(), tensor.flatten()]),
    lambda tensor: tensor.to_sparse(),
    lambda tensor: tensor.float().sum(),
    lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
    lambda tensor: {"nested": tensor},
    lambda tensor: tensor.tolist() if tensor.numel() < 100 else None,
)


def repacked(content: bytes) -> bytes:
    """A zip file with all its members deflated."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name), zipfile.ZIP_DEFLATED)
    return made.getvalue()


TENSORS = (*ZIP, *[tensors] * 16)

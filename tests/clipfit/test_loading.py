"""From names and files to a CLIP; damaged, foreign and hostile files are refused with a reason."""

import pickle
import threading
import warnings
import zipfile

import pytest
import torch

from clipfit import architectures, backbones, published, weights
from clipfit.architectures import architecture_arguments, empty_model
from clipfit.groups import select
from clipfit.io import downloads
from clipfit.io.digests import file_digest
from clipfit.loading import load_clip
from clipfit.prompts import tokenize
from clipfit.weights import fetch_openai, read_checkpoint
from tests.web import EAGER, Server, patience_for

TOKENS = tokenize(["a cat.", "a big dog."], ["cat", "dog"])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    path = tmp_path / "tiny.pt"
    torch.save(tiny_model.state_dict(), path)
    return path


def deflate(path):
    """Rewrite an archive of torch.save with compressed entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "form", ["plain", "nested", "module. prefix", "old format", "deflated", "with numbers"]
)
def test_a_state_dict_gives_the_model_it_was_saved_from(tiny_model, tmp_path, form):
    state = tiny_model.state_dict()
    content = {
        "nested": {"state_dict": state, "epoch": 3},
        "module. prefix": {f"module.{key}": value for key, value in state.items()},
        "with numbers": {**state, "vocab_size": torch.tensor(49_408), "context_length": 77},
    }.get(form, state)
    path = tmp_path / "tiny.pt"
    torch.save(content, path, _use_new_zipfile_serialization=form != "old format")
    if form == "deflated":
        deflate(path)

    clip = load_clip(str(path))
    assert not clip.training
    with torch.no_grad():
        assert torch.equal(clip.encode_image(IMAGES), tiny_model.encode_image(IMAGES))
        assert torch.allclose(
            clip.text_encoder(clip.embed_prompts(TOKENS)), tiny_model.encode_text(TOKENS), atol=1e-5
        )
        assert torch.equal(clip.logit_scale, tiny_model.logit_scale)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_embedded_clip_has_every_layer_that_the_methods_index(precision):
    clip = load_clip("demo", precision)
    assert clip.input_size == backbones.input_of("demo").size
    assert len(select(clip, "text.ffn_proj_bias")["text.ffn_proj_bias"]) == 12
    assert len(select(clip, "image.layernorm")["image.layernorm"]) == 2 * 26
    assert 4.0 < clip.logit_scale < 4.61  # s up to 100
    side = clip.input_size
    with torch.no_grad():
        logits = clip.logits(
            clip.encode_image(torch.zeros(2, 3, side, side)), clip.text_encoder(clip.embed_prompts(TOKENS))
        )
    assert logits.shape == (2, 2)
    assert logits.isfinite().all()


def test_mixed_precision_layout_of_vit_b16():
    model = empty_model(half=True, **architecture_arguments("ViT-B/16"))
    values = {torch.float16: 0, torch.float32: 0}
    for parameter in model.parameters():
        values[parameter.dtype] += parameter.numel()
    assert values == {torch.float16: 124_066_816, torch.float32: 25_553_921}


@pytest.mark.parametrize("precision", ["fp32", "amp", "fp16"])
def test_precisions_hold_the_same_values_up_to_float16(checkpoint, precision):
    reference = torch.load(checkpoint, weights_only=True)
    clip = load_clip(str(checkpoint), precision)
    dtypes = {parameter.dtype for parameter in clip.parameters()}
    assert dtypes == ({torch.float16, torch.float32} if precision == "fp16" else {torch.float32})
    loaded = clip.text_encoder.transformer.resblocks[0].mlp.c_proj.bias
    expected = reference["transformer.resblocks.0.mlp.c_proj.bias"]
    assert torch.equal(loaded, expected.half() if precision == "fp16" else expected)
    assert clip.token_embedding.weight.dtype == clip.image_encoder.ln_pre.weight.dtype == torch.float32


def test_unknown_precision_lists_the_known_ones(checkpoint):
    with pytest.raises(ValueError, match="fp32, fp16, amp"):
        load_clip(str(checkpoint), "half")


@pytest.mark.parametrize("architecture", [(2, 64, 32, 64, 16), ((1, 1, 1, 1), 8, None, 64, 16)])
def test_random_weights_come_from_a_fixed_seed_alone(monkeypatch, architecture):
    monkeypatch.setitem(architectures.ARCHITECTURES, "ViT-B/32", architecture)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load_clip("random:ViT-B/32")
    torch.manual_seed(6)
    again, half = load_clip("random:ViT-B/32"), load_clip("random:ViT-B/32", "fp16")
    torch.manual_seed(5)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert tensor.isfinite().all() and torch.equal(tensor, again.state_dict()[name])
        assert torch.equal(
            tensor.float(), half.state_dict()[name].float()
        )  # float16 holds the values exactly
    with torch.no_grad():
        assert first.encode_image(torch.randn(2, 3, 224, 224)).isfinite().all()
        assert first.text_encoder(first.embed_prompts(TOKENS)).isfinite().all()


def test_a_resnet_is_read_back_from_its_state_dict(monkeypatch, tmp_path):
    monkeypatch.setitem(architectures.ARCHITECTURES, "RN50", ((1, 2, 1, 1), 8, None, 64, 16))
    clip, model = load_clip("random:RN50"), architectures.build_random("RN50")
    torch.save(model.state_dict(), tmp_path / "resnet.pt")
    again = load_clip(str(tmp_path / "resnet.pt"))
    assert again.input_size == 224
    assert clip.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in clip.state_dict().items())


def test_the_global_random_state_is_left_alone(monkeypatch, checkpoint):
    monkeypatch.setitem(architectures.ARCHITECTURES, "ViT-B/32", (1, 64, 32, 64, 16))
    before = torch.random.get_rng_state()
    load_clip("random:ViT-B/32")
    load_clip(str(checkpoint))
    assert torch.equal(before, torch.random.get_rng_state())


def spoil(state, key, value):
    state = dict(state)
    if value is None:
        del state[key]
    else:
        state[key] = value
    return state


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("ln_final.bias", None, "lacks 1 of the tensors.*ln_final.bias"),
        ("text_projection", None, "no CLIP checkpoint in OpenAI's layout: it has no 'text_projection'"),
        ("prompt_learner.ctx", torch.zeros(4), "unknown 1 of the tensors.*prompt_learner.ctx"),
        ("ln_final.bias", torch.zeros(7), r"ln_final.bias \(7,\) instead of \(128,\)"),
        ("positional_embedding", torch.zeros(77), "'positional_embedding' has shape"),
        ("visual.positional_embedding", torch.zeros(7, 128), "not those of a square grid"),
        ("text_projection", torch.zeros(96, 32), "text width 96 is not a multiple of 64"),
        ("token_embedding.weight", torch.zeros(10, 128), "10 token embeddings.*49,408"),
        (
            "ln_final.bias",
            torch.full((128,), float("nan")),
            "'ln_final.bias' holds values that are not finite",
        ),
        ("ln_final.bias", "text", "entry 'ln_final.bias' is a str"),
    ],
)
def test_a_state_dict_that_does_not_fit_names_file_and_tensor(tiny_model, tmp_path, key, value, message):
    path = tmp_path / "spoilt.pt"
    torch.save(spoil(tiny_model.state_dict(), key, value), path)
    with pytest.raises(ValueError, match=message) as error:
        load_clip(str(path))
    assert "spoilt.pt" in str(error.value)


class Hostile:
    """Unpickling this leaves a trace on disk."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, new_format):
    path, trace = tmp_path / "hostile.pt", tmp_path / "trace"
    torch.save({"state_dict": Hostile(trace)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match="hostile.pt.*refused"):
        load_clip(str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(range(256)) * 40, pickle.dumps([1], protocol=2), b"PK\x03\x04" * 99]
)
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path, content):
    path = tmp_path / "garbage.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="garbage.pt"):
        load_clip(str(path))


def test_a_truncated_checkpoint_is_refused(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="tiny.pt is not a readable checkpoint.*it is cut short"):
        load_clip(str(checkpoint))


def test_a_list_or_a_folder_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt holds a list, not a state dict"):
        load_clip(str(tmp_path / "list.pt"))
    with pytest.raises(FileNotFoundError):
        load_clip(str(tmp_path))


@pytest.fixture
def archive(tiny_model, tmp_path):
    """The model as the kind of JIT archive that OpenAI publishes."""
    path = tmp_path / "archive.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated and talkative
        torch.jit.save(torch.jit.trace(tiny_model, (IMAGES, TOKENS), check_trace=False), path)
    return path


def test_a_foreign_jit_archive_is_refused_and_told_how_to_convert(archive):
    with pytest.raises(
        ValueError, match="archive.pt is a JIT archive.*none of those OpenAI published.*state_dict"
    ):
        load_clip(str(archive))


def test_a_published_jit_archive_is_opened_without_a_warning(archive, tiny_model, monkeypatch):
    monkeypatch.setattr(
        weights, "OPENAI_URLS", {"RN50": f"https://example.org/{file_digest(archive)}/RN50.pt"}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip = load_clip(str(archive))
    with torch.no_grad():
        assert torch.equal(clip.encode_image(IMAGES), tiny_model.encode_image(IMAGES))


@pytest.fixture
def server(tmp_path, monkeypatch, checkpoint):
    """OpenAI's server in small, with a file for ViT-B/32, and two other hosts of it: nowhere."""
    server = Server()
    path = f"{file_digest(checkpoint)}/ViT-B-32.pt"
    server.files[path] = checkpoint.read_bytes()
    monkeypatch.setattr(downloads, "PATIENCE", EAGER)
    monkeypatch.setattr(weights, "OPENAI_URLS", {"ViT-B/32": server.url(path)})
    monkeypatch.setattr(published, "OTHER_HOSTS", ())
    yield server
    server.close()


@pytest.fixture
def other_hosts(server, monkeypatch):
    """Two other hosts; the file is on the one that is added to the server's files."""
    hosts = (server.url("second/{digest}/{file}"), server.url("third/{file}"))
    monkeypatch.setattr(published, "OTHER_HOSTS", hosts)
    (path,) = server.files
    return path, [f"second/{path}", "third/ViT-B-32.pt"]


def test_weights_are_downloaded_once_and_kept(server, tmp_path, tiny_model):
    for _ in range(2):
        clip = load_clip("ViT-B/32", cache_dir=tmp_path / "cache")
        assert torch.equal(clip.logit_scale, tiny_model.logit_scale)
    assert len(server.asked) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["ViT-B-32.pt"]


@pytest.mark.parametrize("fault", [404, 503, "html", "slow", "wrong bytes", "cut"])
@pytest.mark.parametrize("last", [0, 1])
def test_weights_come_from_another_host_where_openais_fails(
    fault, last, server, other_hosts, tmp_path, monkeypatch
):
    monkeypatch.setattr(downloads, "PATIENCE", patience_for(fault))
    path, others = other_hosts
    content = server.files.pop(path)
    server.files |= {path: content[::-1] if fault == "wrong bytes" else content, others[last]: content}
    server.faults |= {path: fault}
    found = fetch_openai("ViT-B/32", tmp_path / "cache")
    asked = [path] if fault == "cut" else [path, *others[: last + 1]]  # what is cut is taken up again
    assert found.read_bytes() == content and list(dict.fromkeys(server.paths)) == asked


def test_processes_that_start_at_once_all_get_whole_weights(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIP_CACHE", str(tmp_path / "cache"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch_openai("ViT-B/32"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "cache" / "ViT-B-32.pt"] * 4
    assert read_checkpoint(found[0])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["ViT-B-32.pt"]


def test_a_damaged_file_in_the_cache_is_replaced(server, tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"half a download")
    with pytest.warns(UserWarning, match="ViT-B-32.pt is damaged"):
        path = fetch_openai("ViT-B/32", tmp_path)
    assert path.stat().st_size > 1000


def test_a_wrong_download_is_never_kept(server, tmp_path):
    (path,) = server.files
    server.files[path] = b"something else"
    with pytest.raises(ConnectionError, match="sha256 is"):
        fetch_openai("ViT-B/32", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_any_host_the_error_says_which_file_to_put_where_and_what_else_loads(
    server, other_hosts, tmp_path
):
    path, others = other_hosts
    server.files.clear()
    with pytest.raises(ConnectionError) as error:
        load_clip("ViT-B/32", cache_dir=tmp_path)
    for asked in (path, *others):
        assert f"{server.url(asked)}: HTTP Error 404" in str(error.value)
    assert f"{tmp_path / 'ViT-B-32.pt'} by hand (SHA256 {path.split('/')[0]})" in str(error.value)
    instead = "timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_pytorch_model.bin"
    assert instead in str(error.value)


def test_every_file_of_openais_has_three_places_and_another_that_loads():
    for url in published.OPENAI_URLS.values():
        digest, file = url.split("/")[-2:]
        places = published.places_of(url)
        assert [place.url for place in places][0] == url and len(places) == 3
        assert all(place.url.endswith(file) and place.checksum == digest for place in places)
        assert "open_clip_pytorch_model.bin" in published.instead_of(file)

"""Features of frozen image towers, found again where another run has computed them (FEATURES.STORE)."""

import hashlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import clipfit
from clipfit.io.digests import file_digest
from clipfit.io.feature_store import FeatureStore
from clipfit.projection import Projection

# Files whose code decides the features of an image tower.
CODE = ("clip.py", "modules/casts.py", "modules/model.py", "modules/resnet.py", "modules/transformer.py")


PIECE = 32  # images that go through a frozen tower together: a batch of any size is made of such


class FrozenFeatures:
    """Image features of batches, from the store where they are there.

    A frozen tower encodes a batch in pieces of one size, with the store and without, so the bits are the
    same, and methods with batches of 32 and of 128 find each other's views. Nothing is kept or taken while
    the tower trains, or counts statistics of batches.

    Args: tower, of the trainer; device; precision, the trainer's words for it; where, folder of the store, or
          whether the user's cache is one; limit, of the store [bytes]
    """

    def __init__(
        self, tower: nn.Module, device: torch.device, precision: str, where: str | bool, limit: float
    ):
        self._tower, self._device, self._precision = tower, device, precision
        self._where, self._limit = where, limit
        self._batch = None, None  # the images that were seen last, and the digests of their pieces
        self._store = None

    def note(self, images: Tensor, digests: list[str] | None) -> None:
        """Remember the digests of the pieces of images that a trainer is about to encode."""
        self._batch = images, digests

    def of(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Features (B, D) of images (B, 3, H, W)."""
        if not self._is_frozen():
            return encode(images)
        seen, digests = self._batch
        pieces = images.split(PIECE)
        if not self._where or seen is not images or digests is None:
            return torch.cat([encode(piece) for piece in pieces])
        if self._store is None:
            self._store = self._open()
        return torch.cat([self._of(*one, encode) for one in zip(pieces, digests, strict=True)])

    def _of(self, piece: Tensor, digest: str, encode: Callable[[Tensor], Tensor]) -> Tensor:
        features = self._store.get(digest, self._device)
        if features is None:
            features = encode(piece)
            self._store.put(digest, features)
        return features

    def before(self, projection: Projection) -> "FeaturesBeforeProjection":
        """Likewise of the same tower whose projection trains."""
        return FeaturesBeforeProjection(projection, self._device, self._precision, self._where, self._limit)

    def close(self) -> None:
        if self._store is not None:
            found, computed = self._store.found, self._store.computed
            print(f"feature store: {found:,} of {found + computed:,} image passes were there")
            self._store.close()
            self._store = None

    def _is_frozen(self) -> bool:
        counts = any(isinstance(one, _BatchNorm) and one.training for one in self._tower.modules())
        return not counts and not any(one.requires_grad for one in self._tower.parameters())

    def _open(self) -> FeatureStore:
        context = [self._precision, *_machine(self._device), _code(), repr(self._tower)]
        context.append(tensors_digest(self._tower))
        folder = None if self._where is True else self._where
        return FeatureStore(folder, self._limit, "\n".join(context))


class FeaturesBeforeProjection(FrozenFeatures):
    """Of a tower whose last matrix alone trains: what comes before that matrix is kept and taken."""

    def __init__(self, projection: Projection, *more):
        super().__init__(projection.body, *more)
        self._projection = projection

    def unprojected(self, images: Tensor) -> Tensor:
        """Features (B, d) of images (B, 3, H, W), before the projection."""
        return super().of(images, self._projection.before)

    def of(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        return self._projection(self.unprojected(images))


def tensors_digest(module: nn.Module) -> str:
    """SHA-256 (hex) of all tensors of a module, with their names."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _machine(device: torch.device) -> list[str]:
    """What the bits of a computation depend on beside its numbers: device, threads, kernels, versions."""
    words = [torch.__version__, device.type, f"deterministic {torch.are_deterministic_algorithms_enabled()}"]
    if device.type == "cuda":
        cuda = torch.backends.cuda
        kernels = cuda.flash_sdp_enabled, cuda.mem_efficient_sdp_enabled, cuda.cudnn_sdp_enabled
        tf32 = torch.backends.cudnn.conv.fp32_precision, cuda.matmul.fp32_precision
        found = [torch.cuda.get_device_name(device), torch.version.cuda, torch.backends.cudnn.version()]
        return [*words, str(found), str(tf32), str([enabled() for enabled in kernels])]
    capability = torch.backends.cpu.get_cpu_capability()
    return [*words, platform.machine(), _processor(), capability, f"{torch.get_num_threads()} threads"]


@cache
def _processor() -> str:
    """The model of the CPU, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor())


@cache
def _code() -> str:
    folder = Path(clipfit.__file__).parent
    return " ".join(file_digest(folder / name) for name in CODE)

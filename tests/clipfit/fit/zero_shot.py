"""The fit of zero-shot CLIP that these tests are about."""

CLASSES = ["striped red star", "dotted blue fish", "wavy blue fish"]
TEMPLATE = "a photo of a {}."
INPUT = {
    "size": [48, 48],
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize": "shortest",
    "upright": False,
}

"""Where OpenAI's checkpoint files are, and what loads in their stead."""

from clipfit.io.places import FilePlace

OTHER_HOSTS = (  # that have the same bytes
    "https://openaipublic.blob.core.windows.net/clip/models/{digest}/{file}",
    "https://huggingface.co/jinaai/clip-models/resolve/main/{file}",  # a copy, by Jina AI
)
OTHER_FILES = {  # OpenAI's file -> repository on Hugging Face that has the same weights in open_clip's file
    "RN50.pt": "timm/resnet50_clip.openai",
    "RN101.pt": "timm/resnet101_clip.openai",
    "RN50x4.pt": "timm/resnet50x4_clip.openai",
    "RN50x16.pt": "timm/resnet50x16_clip.openai",
    "RN50x64.pt": "timm/resnet50x64_clip.openai",
    "ViT-B-32.pt": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B-16.pt": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L-14.pt": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L-14-336px.pt": "timm/vit_large_patch14_clip_336.openai",
}


def places_of(url: str) -> list[FilePlace]:
    """Places of one of OpenAI's files, in the order in which they are asked.

    Args: url, OpenAI's own address, whose last two parts are the file's SHA256 and its name
    """
    digest, file = url.split("/")[-2:]
    urls = [url, *(host.format(file=file, digest=digest) for host in OTHER_HOSTS)]
    return [FilePlace(url=url, checksum=digest) for url in urls]


def instead_of(file: str) -> str:
    """What else has the weights of a file of OpenAI's: words for a message."""
    if file not in OTHER_FILES:
        return "a copy"
    address = f"https://huggingface.co/{OTHER_FILES[file]}/resolve/main/open_clip_pytorch_model.bin"
    return f"a copy, or of {address} (the same weights and keys),"

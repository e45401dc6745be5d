"""OpenAI's nine files of weights: where they are, what their models read, what loads in their stead."""

import re

from clipfit.io.places import FilePlace

# SHA-256 of the files. Source: their addresses, which contain it.
OPENAI_SHA256 = {
    "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L/14@336px": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}

OPENAI_URLS = {
    name: f"https://openaipublic.azureedge.net/clip/models/{sha256}/{re.sub('[/@]', '-', name)}.pt"
    for name, sha256 in OPENAI_SHA256.items()
}

OPENAI_INPUT_SIZES = {
    "RN50": 224,
    "RN101": 224,
    "RN50x4": 288,
    "RN50x16": 384,
    "RN50x64": 448,
    "ViT-B/32": 224,
    "ViT-B/16": 224,
    "ViT-L/14": 224,
    "ViT-L/14@336px": 336,
}

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

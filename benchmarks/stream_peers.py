"""One reading of one loader, in a process of its own: what `benchmarks/stream.py` starts, in this or the peers' Python.

    python -P benchmarks/stream_peers.py write|read LOADER SHARDS FOLDER PASSES SIDE

`write` makes FOLDER in the loader's own format from the tars in SHARDS; `read` goes PASSES times over it, shuffled as
the loader does it, and prints samples a second. SIDE 0: undecoded; else each image is decoded with Pillow and resized
to SIDE by SIDE. It imports nothing of the project, so that peers can live in an environment of their own.
"""

import glob
import importlib.machinery
import io
import json
import sys
import tarfile
import time
import types
import warnings

warnings.filterwarnings("ignore")


def samples(shards):
    """(key, jpg, txt, json) of all tars, in order."""
    for path in sorted(glob.glob(f"{shards}/*.tar")):
        with tarfile.open(path) as tar:
            found = {}
            for member in tar:
                key, extension = member.name.split(".", 1)
                found[extension] = tar.extractfile(member).read()
                if len(found) == 3:
                    yield key, found["jpg"], found["txt"], found["json"]
                    found = {}


def as_dict(sample):
    key, jpg, txt, facts = sample
    return {"key": key, "jpg": jpg, "txt": txt.decode(), "json": facts.decode()}


def decode(data, side):
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).tobytes()


def mosaic():
    """mosaicml-streaming, without torchvision: it imports it for classes that are not used here, and beside the CPU
    build of torch there is none."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.VisionDataset = module.to_tensor = object
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    import streaming

    return streaming


def write(loader, shards, folder):
    if loader == "mosaicml-streaming":
        columns = {"key": "str", "jpg": "bytes", "txt": "str", "json": "str"}
        with mosaic().MDSWriter(out=folder, columns=columns) as out:
            for sample in samples(shards):
                out.write(as_dict(sample))
    elif loader == "litdata":
        import litdata

        held = [as_dict(sample) for sample in samples(shards)]
        litdata.optimize(
            fn=held.__getitem__, inputs=list(range(len(held))), output_dir=folder, chunk_bytes="64MB", num_workers=1
        )


def opened(loader, shards, folder):
    """An iterable of (jpg bytes, caption) for one pass."""
    urls = sorted(glob.glob(f"{shards}/*.tar"))
    if loader == "webdataset":
        import webdataset

        dataset = webdataset.WebDataset(urls, shardshuffle=100, empty_check=False).shuffle(1000)
        return ((s["jpg"], s["txt"]) for s in dataset)
    if loader == "datasets":
        import datasets

        datasets.disable_progress_bars()
        dataset = datasets.load_dataset("webdataset", data_files={"train": urls}, split="train", streaming=True)
        dataset = dataset.cast_column("jpg", datasets.Image(decode=False)).shuffle(seed=0, buffer_size=1000)
        return ((s["jpg"]["bytes"], s["txt"]) for s in dataset)
    if loader == "mosaicml-streaming":
        dataset = mosaic().StreamingDataset(local=folder, shuffle=True, batch_size=32)
        return ((s["jpg"], s["txt"]) for s in dataset)
    import litdata

    dataset = litdata.StreamingDataset(folder, shuffle=True)
    return ((s["jpg"], s["txt"]) for s in dataset)


def read(loader, shards, folder, passes, side):
    count, started = 0, 0.0
    for turn in range(passes + 1):  # the first pass warms up: files into the page cache, libraries loaded
        if turn == 1:
            count, started = 0, time.perf_counter()
        for jpg, _caption in opened(loader, shards, folder):
            if side:
                decode(jpg, side)
            count += 1
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    action, loader, shards, folder, passes, side = sys.argv[1:]
    if action == "write":
        write(loader, shards, folder)
    else:
        print(json.dumps(read(loader, shards, folder, int(passes), int(side))))

"""Files and folders made to hurt, for each border that a command reads through: what opens one of them does no more."""

import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import davis_folder
import numpy as np
import torch
from safetensors.torch import save_file

DEEP = "a = " + "[" * 20_000 + "]" * 20_000
LINES = ("../secret", "../../secret/", "secret/../..", "..", "a" * 5_000, "\x00", "/")


class Call:
    """Touches a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.place}/started",)


def checkpoints(at: Path, place: Path, address: str) -> None:
    call, weights = Call(place), {"blocks.0.weight": torch.zeros(2, 2)}
    torch.save({"model": call}, at / "zip.pth")
    torch.save({"model": weights, "args": call}, at / "beside.pth")
    torch.save({"model": call}, at / "legacy.pth", _use_new_zipfile_serialization=False)
    (at / "plain.pkl").write_bytes(pickle.dumps({"model": call}))
    np.savez(at / "objects.npz", weight=np.array([call], object))
    np.save(at / "object.npy", np.array([call], object))
    (at / "code.py").write_text(f"open('{place}/started', 'w')\n")
    (at / "claims.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    head = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (at / "beyond.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    digits = b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5_000 + b'], "data_offsets": [0, 4]}}'
    (at / "digits.safetensors").write_bytes(struct.pack("<Q", len(digits)) + digits + bytes(4))
    (at / "digits").mkdir()
    (at / "digits/config.json").write_text('{"hidden_size": ' + "9" * 5_000 + "}")
    save_file(weights, at / "digits/model.safetensors")
    with zipfile.ZipFile(at / "script.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(call))
        archive.writestr("archive/code/__torch__.py", f"open('{place}/started', 'w')")
    save_file(weights, place / "secret/model.safetensors")
    for name, index in (
        ("shards_up", "../../secret/model.safetensors"),
        ("shards", f"{place}/secret/model.safetensors"),
    ):
        (at / name).mkdir()
        (at / name / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"blocks.0.weight": index}}))
    for name, arguments in (
        (
            "timm_url",
            {"pretrained": True, "pretrained_cfg": {"url": f"{address}/weights.pth"}, "cache_dir": str(place)},
        ),
        ("timm_file", {"pretrained": True, "pretrained_cfg": {"file": str(at / "zip.pth")}}),
        ("timm_path", {"checkpoint_path": str(at / "zip.pth")}),
    ):
        (at / name).mkdir()
        save_file({"pos_embed": torch.zeros(1, 197, 192)}, at / name / "model.safetensors")
        config = {"architecture": "vit_tiny_patch16_224", "model_args": arguments}
        (at / name / "config.json").write_text(json.dumps(config))
    (at / "own_code").mkdir()
    shutil.copy(at / "code.py", at / "own_code/modeling.py")
    save_file(weights, at / "own_code/model.safetensors")
    (at / "own_code/config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))


def roots(at: Path, place: Path, address: str) -> None:
    """Of DAVIS; those of shared attack files are there where the caller has put them."""
    for number, line in enumerate(LINES):
        davis_folder.make_clip(at / f"listed{number}", "good", frames=3, size=(48, 64))
        with (at / f"listed{number}/ImageSets/2017/val.txt").open("a") as file:
            file.write(f"{line}\n")
    made = davis_folder.make_clip(at / "eps", "good", frames=3, size=(48, 64))
    davis_folder.make_clip(at / "eps", "evil", frames=3, size=(48, 64))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 80 60\n%%EndComments\nshowpage\n"
    (made / "JPEGImages/480p/evil/00001.jpg").write_bytes(eps)
    (made / "Annotations/480p/evil/00000.png").write_bytes(eps)
    meta = davis_folder.make_clip(at / "meta", "good", frames=3, size=(48, 64))
    shutil.rmtree(meta / "ImageSets")
    (meta / "meta.json").write_text(json.dumps({"videos": {"../../secret": {}, f"{place}/secret": {}}}))
    for name, text in (("deep", "[" * 100_000), ("digits", '{"videos": {"a": ' + "9" * 5_000 + "}}")):
        shutil.rmtree(davis_folder.make_clip(at / name, "good", frames=3, size=(48, 64)) / "ImageSets")
        (at / name / "meta.json").write_text(text)
    for number, name in enumerate(("../evil", f"{place}/secret/file.png", "a/../../evil")):
        with zipfile.ZipFile(at / f"{number}.zip", "w") as archive:
            archive.writestr(name, b"x")
            archive.writestr("ImageSets/2017/val.txt", "../secret\n")
    (at / "videos").mkdir()
    videos(at / "videos", place, address)
    with tarfile.open(at / "shard.tar", "w") as shard:
        for name, link in (
            ("a.png", f"{place}/secret/file.png"),
            ("../../secret/b.png", ""),
            ("c.mp4", "../../secret"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            shard.addfile(member)
        playlist = f"#EXTM3U\n#EXTINF:1,\n{address}/a.ts\n{place}/secret/file.png\n".encode()
        member = tarfile.TarInfo("d.mp4")
        member.size = len(playlist)
        shard.addfile(member, io.BytesIO(playlist))
    (at / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{address}/a.ts\n{place}/secret/file.png\n")
    os.mkfifo(at / "fifo")


def predictions(at: Path, place: Path, address: str) -> None:
    for name, content in (("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"), ("pickle", pickle.dumps(Call(place))), ("empty", b"")):
        (at / name / "good").mkdir(parents=True)
        for index in range(3):
            (at / name / f"good/{index:05d}.png").write_bytes(content)
    with zipfile.ZipFile(at / "up.zip", "w") as archive:
        archive.writestr("../secret/good/00000.png", b"x")
    (at / "text.zip").write_text("none")


def runs(at: Path, place: Path, address: str) -> None:
    """Changed copies of the sound run."""
    sound = place / "given/run"
    (place / "secret/evil.py").write_text(f"open('{place}/started', 'w')\n")

    def changed(name: str, file: str, change: Callable[[Any], object]) -> None:
        shutil.copytree(sound, at / name)
        document = json.loads((at / name / file).read_text())
        change(document)
        (at / name / file).write_text(json.dumps(document))

    models: dict[str, dict[str, Any]] = {
        "own_code": {"spec": f"py:{place}/secret/evil.py:make"},
        "hub": {"spec": f"hf:{address}/a"},
        "path": {"spec": f"{place}/hostile/checkpoint/zip.pth"},
        "layout": {"layout": f"{place}/secret/x.toml"},
    }
    for name, model in models.items():
        changed(name, "run.json", lambda run, model=model: run["recorded"]["model"].update(model))  # type: ignore[misc]
    for name, data in (("address", f"{address}/data.zip"), ("number", 7), ("nul", "\0")):
        changed(name, "run.json", lambda run, data=data: run["recorded"].update(data=data))  # type: ignore[misc]
    changed("task", "summary.json", lambda summary: summary.update(task="../../secret"))
    changed("protocol", "summary.json", lambda summary: summary.update(protocol=f"davis/{place}/secret/x@1"))
    changed("clips", "summary.json", lambda summary: summary.update(per_clip={"../../secret": {"J&F-Mean": 1.0}}))
    for name, text in (("deep", "[" * 100_000), ("binary", "\x00\x01"), ("empty", "")):
        shutil.copytree(sound, at / name)
        (at / name / "summary.json").write_text(text)
        (at / name / "run.json").write_text(text)


def documents(suffix: str, *further: str) -> Callable[[Path, Path, str], None]:
    """Files of text that no parser takes, and others; PLACE and ADDRESS stand for where the secret and a server are."""

    def make(at: Path, place: Path, address: str) -> None:
        for number, text in enumerate((*further, DEEP, "a = " + "9" * 100_000, "\x00", "")):
            filled = text.replace("PLACE", str(place)).replace("ADDRESS", address)
            (at / f"{number}{suffix}").write_text(filled)
        (at / f"latin{suffix}").write_bytes(b"\xff\xfe\xe4")
        os.mkfifo(at / f"fifo{suffix}")

    return make


def videos(at: Path, place: Path, address: str) -> None:
    """Texts that FFmpeg would follow, under names of videos; folders of pictures that start programs."""
    for name, text in (
        ("playlist.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nADDRESS/a.ts\nPLACE/secret/file.png\n"),
        ("concat.mkv", "ffconcat version 1.0\nfile PLACE/secret/file.png\nfile ADDRESS/a.ts\n"),
        ("session.avi", "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
        ("ref.mov", "RTSPtext\nADDRESS/a.ts\n"),
        ("dash.webm", "<?xml version='1.0'?><MPD><BaseURL>ADDRESS</BaseURL></MPD>"),
        ("empty.mp4", ""),
    ):
        (at / name).write_text(text.replace("PLACE", str(place)).replace("ADDRESS", address))
    (at / "frames").mkdir()
    for index in range(3):
        (at / f"frames/{index}.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 80 60\nshowpage\n")
    os.mkfifo(at / "fifo.mp4")


EXTENDING = 'extends = "{}"\nversion = 1\n'
SOURCE = """\
[davis]
title = "D"
page = "p"
licence = "l"
licence_verified = true
[[davis.files]]
url = "{}"
source = "s"
"""
EXTENDED = ("../../secret/x", "PLACE/secret/x", "PLACE/secret/x.toml")
URLS = (
    "file://PLACE/secret/file.png",
    "ftp://127.0.0.1/x.zip",
    "ADDRESS/..%2f..%2fevil",
    "ADDRESS/",
    "PLACE/secret/a.zip",
)
HOSTILE = MappingProxyType(
    {
        "checkpoint": checkpoints,
        "data": roots,
        "prediction": predictions,
        "run": runs,
        "list": documents(".txt", *(f"{line}\n" for line in LINES), "PLACE/secret\n"),
        "protocol": documents(".toml", *(EXTENDING.format(name) for name in EXTENDED)),
        "layout": documents(".toml", '[anchors]\n"(a+)+$" = 2\n', 'title = "PLACE/secret"\n'),
        "mask": documents(".png", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\nshowpage\n"),
        "points": documents(".csv", "a,1e999,2\n", "=cmd,nan,2\n", "a,1\n" * 10_000),
        "video": videos,
        "manifest": documents(
            ".csv",
            "split,clip,folder,num_frames\nval,../../secret,../../secret,3\n",
            "split,clip,folder\nval,a,PLACE/secret\n",
            f"split,clip,folder,num_frames,first_frame,last_frame\nval,a,a,{10**12},0,{10**12 - 1}\n",
            f"split,clip,folder,num_frames,first_frame,last_frame\nval,a,a,3,0,{'9' * 5_000}\n",
            f"split,clip,folder,width\nval,a,a,{'9' * 5_000}\n",
        ),
        "sources": documents(".toml", *(SOURCE.format(url) for url in URLS)),
        "recipe": documents(".toml", *(EXTENDING.format(name) for name in EXTENDED)),
        "baseline": documents(".json", "[" * 100_000, "{}", '{"protocols": {"davis": "davis/PLACE/secret/x@1"}}'),
    }
)
"""Border to what makes its inputs: folder for them, the place whose `secret` none may reach, a server's address."""

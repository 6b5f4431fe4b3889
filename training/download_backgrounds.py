"""Fetch pictures without people from packages of Debian, so that a network sees more of the world than streets.

    python download_backgrounds.py --out runs/backgrounds

Needs `apt-get`, `dpkg-deb`, 2 GB of traffic and 5 GB of disk while it runs; what stays are `<out>/photos`,
`<out>/ground` and `<out>/panoramas`, some 100 MB of JPEG files for `prepare.py --backgrounds`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from panoramas import views

LONG_SIDE = 1024
LEAST = 256  # pixels; smaller pictures are icons
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MAPS = ("_norm.", "_spec.", "_normal.", "_specular.", "_ao.")  # what a renderer reads beside a texture's colors

# Photos and drawings (CC BY 4.0, CC BY-SA 3.0 and 4.0, CC0), and textures of ground, rock and snow (CC BY-SA 3.0).
WALLPAPERS = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "ukui-wallpapers", "gnome-backgrounds")
TEXTURES = "0ad-data"
TEXTURES_ZIP, TEXTURES_FOLDER = "usr/share/games/0ad/mods/public/public.zip", "art/textures/terrain/types/"
PEOPLE = frozenset({"Kleiber_by_Lukas_Baubkus"})  # somebody stands behind the tree


def fetch(package: str, folder: Path) -> Path:
    """Download and unpack a package; returns the folder of its files."""
    inside = folder / package
    inside.mkdir()
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    (archive,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, inside], check=True)
    archive.unlink()
    return inside


def wallpapers(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of the pictures in an unpacked package; links lead to pictures that are there anyway."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.is_symlink() and path.stem not in PEOPLE:
            yield path.stem, path


def textures(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Names and files of the ground textures."""
    with zipfile.ZipFile(folder / TEXTURES_ZIP) as box:
        for name in box.namelist():
            if name.startswith(TEXTURES_FOLDER) and name.endswith(".dds") and not any(m in name for m in MAPS):
                yield name.removeprefix(TEXTURES_FOLDER).split(".")[0].replace("/", "-"), BytesIO(box.read(name))


def keep(name: str, file: Path | BinaryIO, out: Path) -> bool:
    """Write one picture as JPEG; False for icons."""
    with Image.open(file) as picture:
        if min(picture.size) < LEAST:
            return False
        small = picture.convert("RGB")
    small.thumbnail((LONG_SIDE, LONG_SIDE))
    small.save(out / f"{name}.jpg", quality=92)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/backgrounds"))
    options = parser.parse_args()
    photos, ground, panoramas = (options.out / name for name in ("photos", "ground", "panoramas"))
    for folder in (photos, ground, panoramas):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as scratch:
        for package in WALLPAPERS:
            kept = sum(keep(*found, photos) for found in wallpapers(fetch(package, Path(scratch))))
            print(f"{package}: {kept}", flush=True)
        kept = sum(keep(*found, ground) for found in textures(fetch(TEXTURES, Path(scratch))))
        print(f"{TEXTURES}: {kept}", flush=True)
    for name, picture in views():
        Image.fromarray(picture).save(panoramas / f"{name}.jpg", quality=92)


if __name__ == "__main__":
    main()

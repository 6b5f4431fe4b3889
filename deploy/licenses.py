"""Prints docs/licenses.md: the license of every package that this environment has, and of the FFmpeg inside PyAV.

Run it in the environment of the image: ``./dev licenses``.
"""

import ctypes
import importlib.metadata
import re
import sys
from pathlib import Path

OURS = {"alphareel", "alphareel-client", "alphareel-kernels"}
# By the first name that matches; what classifiers say in words becomes the SPDX identifier.
SPDX = (
    ("Apache", "Apache-2.0"),
    ("Mozilla Public License 2.0", "MPL-2.0"),
    ("3-Clause", "BSD-3-Clause"),
    ("BSD", "BSD-3-Clause"),
    ("MIT", "MIT"),
)
GPL_LIBRARIES = ("x264", "x265")


def license_of(package: importlib.metadata.Distribution) -> str:
    """The SPDX expression that the package declares, else what its classifiers say; "unknown" for neither."""
    facts = package.metadata
    declared = facts.get("License-Expression")
    if declared:
        return declared
    named = [c.rpartition("::")[2].strip() for c in facts.get_all("Classifier", []) if c.startswith("License ::")]
    texts = named or [(facts.get("License") or "unknown").partition("\n")[0]]
    found = [next((spdx for word, spdx in SPDX if word in text), text) for text in texts]
    return " OR ".join(sorted(set(found)))


def table() -> str:
    packages = {re.sub(r"[-_.]+", "-", d.metadata["Name"]).lower(): d for d in importlib.metadata.distributions()}
    rows = [
        f"| {name} | {package.version} | {license_of(package)} |"
        for name, package in sorted(packages.items())
        if name not in OURS
    ]
    return "\n".join(["| package | version | license |", "| --- | --- | --- |", *rows])


def ffmpeg() -> tuple[str, list[str], list[str]]:
    """What FFmpeg says of its license; the libraries that it was built with; those of PyAV's wheel under the GPL."""
    import av.codec  # noqa: F401, PLC0415 - loads the library

    path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libavcodec" in line)
    library = ctypes.CDLL(path)
    library.avcodec_license.restype = library.avcodec_configuration.restype = ctypes.c_char_p
    options = library.avcodec_configuration().decode()
    beside = [file.name for file in Path(path).parent.iterdir()]
    shipped = [name for name in GPL_LIBRARIES if any(file.startswith(f"lib{name}") for file in beside)]
    return library.avcodec_license().decode(), sorted(re.findall(r"--enable-(lib\w+)", options)), shipped


def main() -> None:
    license_name, libraries, gpl = ffmpeg()
    template = (Path(__file__).parent / "licenses.md.in").read_text()
    filled = {
        "@packages@": table(),
        "@license@": license_name,
        "@libraries@": ", ".join(f"`{name}`" for name in libraries),
        "@gpl@": " and ".join(f"`lib{name}`" for name in gpl) or "no library under the GPL",
    }
    for mark, text in filled.items():
        template = template.replace(mark, text)
    sys.stdout.write(template)


if __name__ == "__main__":
    main()

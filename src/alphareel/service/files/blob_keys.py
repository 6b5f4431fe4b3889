"""Keys of blobs, built and parsed here and nowhere else.

``uploads/<upload>.<extension>``; for each job ``outputs/<job>/<attempt>/<name>``, ``mattes/<job>/<attempt>/<name>``,
``previews/<job>/<attempt>/<name>``, ``chunks/<job>/<plan hash>/<name>``, ``fetched/<job>/<run>/<name>`` and
``returned/<job>/<task>/<lease>/<name>``; for files that arrive in parts ``parts/<multipart upload>/<number>`` and
``parts/<tus upload>/<offset>.<generation>``.
A prefix ends in a slash.
"""

import re
from typing import NamedTuple

OUTPUTS = "outputs"
MATTES = "mattes"
PREVIEWS = "previews"
CHUNKS = "chunks"
FETCHED = "fetched"
RETURNED = "returned"
UPLOADS = "uploads"
PARTS = "parts"
_LEFTOVERS = "leftovers"
JOB_FOLDERS = (OUTPUTS, MATTES, PREVIEWS, CHUNKS, FETCHED, RETURNED)

UPLOAD_KEY = re.compile(UPLOADS + r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[a-z0-9]{2,5}")
"""The key of an upload; its group is the upload's ID."""

_PLAN_HASH_DIGITS = 16
_EXTENSIONS = {
    "png_sequence": "zip",
    "stacked_mp4": "mp4",
    "matte": "mp4",
    "prores_hq": "mov",
    "ffv1": "mkv",
    "hevc_mov": "mov",
    "poster": "png",
    "thumbnail": "webp",
    "lossless_matte": "mkv",
}


class BlobKey(NamedTuple):
    """A parsed key. ``owner``: the ID of the job or of the tus or multipart upload, or the file name of the upload."""

    folder: str
    owner: str


def parse(key: str) -> BlobKey | None:
    """None for a key of any other form."""
    folder, *rest = key.split("/")
    if folder in (*JOB_FOLDERS, PARTS) and len(rest) > 1:
        return BlobKey(folder, rest[0])
    if folder == UPLOADS and len(rest) == 1:
        return BlobKey(folder, rest[0])
    return None


def upload_key(upload_id: str, extension: str) -> str:
    """``extension`` has no dot."""
    return f"{UPLOADS}/{upload_id}.{extension}"


def part_prefix(owner_id: str) -> str:
    """Prefix of the parts of a multipart upload, or of a tus upload that is being received."""
    return f"{PARTS}/{owner_id}/"


def part_key(multipart_id: str, number: int) -> str:
    return f"{part_prefix(multipart_id)}{number}"


def tus_part_key(tus_id: str, offset: int, generation: int) -> str:
    """Key of the part at ``offset``; two requests never write the same one, because their generations differ."""
    return f"{part_prefix(tus_id)}{offset}.{generation}"


def output_prefix(job_id: str, attempt: int) -> str:
    """Prefix of the files that an attempt delivers."""
    return f"{OUTPUTS}/{job_id}/{attempt}/"


def matte_prefix(job_id: str, attempt: int) -> str:
    """Prefix of the matte that an attempt keeps."""
    return f"{MATTES}/{job_id}/{attempt}/"


def preview_prefix(job_id: str, attempt: int) -> str:
    """Prefix of the previews of a running attempt."""
    return f"{PREVIEWS}/{job_id}/{attempt}/"


def chunk_prefix(job_id: str, plan_hash: str) -> str:
    """Prefix of the finished chunks of one plan."""
    return f"{CHUNKS}/{job_id}/{plan_hash[:_PLAN_HASH_DIGITS]}/"


def fetched_prefix(job_id: str, run: int) -> str:
    """Prefix of the files that were downloaded for a run of the job."""
    return f"{FETCHED}/{job_id}/{run}/"


def fetched_key(job_id: str, run: int, name: str) -> str:
    """Key of a file that was downloaded for a run of the job."""
    return f"{fetched_prefix(job_id, run)}{name}"


def returned_prefix(job_id: str, task_id: str) -> str:
    """Prefix of the files that a runner made, until they are verified."""
    return f"{RETURNED}/{job_id}/{task_id}/"


def job_prefixes(job_id: str) -> tuple[str, ...]:
    """Prefixes of everything that is stored for a job, except its uploads."""
    return tuple(f"{folder}/{job_id}/" for folder in JOB_FOLDERS)


def temporary_prefixes(job_id: str, *, keep_fetched: bool = False) -> tuple[str, ...]:
    """Prefixes of what a job needs only until it ends: previews, chunks, what runners made, and downloaded files.

    ``keep_fetched``: its source is needed as long as its matte.
    """
    prefixes = tuple(f"{folder}/{job_id}/" for folder in (PREVIEWS, CHUNKS, RETURNED))
    return prefixes if keep_fetched else (*prefixes, f"{FETCHED}/{job_id}/")


def leftovers_of(job_id: str) -> str:
    """An entry in the list of scheduled deletions that stands for what the ended job left behind."""
    return f"{_LEFTOVERS}/{job_id}"


def job_of_leftovers(entry: str) -> str | None:
    """The job of such an entry; None for a blob or a prefix."""
    folder, _, job_id = entry.partition("/")
    return job_id if folder == _LEFTOVERS else None


def result_name(output_format: str) -> str:
    """File name of the first output, the last part of its key."""
    return f"result.{_EXTENSIONS.get(output_format, output_format)}"


def output_name(output_format: str) -> str:
    """File name of every further output: formats may share an extension."""
    return f"{output_format}.{_EXTENSIONS.get(output_format, output_format)}"

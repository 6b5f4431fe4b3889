"""Uploads on their way in and links on their way out."""

import errno
import hashlib
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from alphareel.domain import errors
from alphareel.service.files import signed_urls
from alphareel.service.principal import Principal
from alphareel.service.uploads import service
from alphareel.service.uploads.early_writeback import begin_writeback
from alphareel.service.uploads.models import MediaInfo
from alphareel.service.uploads.service import plain_name
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, SettableClock, open_harness

ANYBODY = Principal(None, "req_0")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, limits={"max_upload_bytes": 1000})
    yield harness
    harness.close()


def left_behind(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "incoming").iterdir())


def test_an_upload_is_kept_whole_and_described(harness: ServiceHarness, tmp_path: Path) -> None:
    session = harness.services.uploads.begin(
        ANYBODY, filename="/home/me/my film.MP4", declared_type="application/octet-stream"
    )
    for start in range(0, len(TINY_MP4), 10):
        session.write(TINY_MP4[start : start + 10])
    upload = session.finish()
    assert (upload.filename, upload.size, upload.kind) == ("my film.MP4", len(TINY_MP4), "video")
    assert upload.sha256 == hashlib.sha256(TINY_MP4).hexdigest()
    assert upload.blob == f"uploads/{upload.id}.mp4"
    assert harness.blobs.blobs == {upload.blob: TINY_MP4}
    assert harness.uploads.upload(upload.id) == upload
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("declared", ["text/html", "application/pdf", "audio/mpeg; charset=x"])
def test_a_type_that_can_be_no_picture_at_all_is_refused_at_once(declared: str, harness: ServiceHarness) -> None:
    with pytest.raises(errors.InvalidFileType):
        harness.services.uploads.begin(ANYBODY, filename="a", declared_type=declared)


@pytest.mark.parametrize(
    "declared", [None, "", "application/octet-stream", "video/mp4", "VIDEO/QuickTime", "image/png"]
)
def test_the_bytes_decide_where_the_type_says_little(declared: str | None, harness: ServiceHarness) -> None:
    session = harness.services.uploads.begin(ANYBODY, filename="a.bin", declared_type=declared)
    session.write(TINY_MP4)
    assert session.finish().content_type == "video/mp4"


def test_a_file_past_the_limit_is_refused_while_it_arrives(harness: ServiceHarness, tmp_path: Path) -> None:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(bytes(1000))
    with pytest.raises(errors.FileTooLarge, match="File too large"):
        session.write(b"x")
    session.abort()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("data", [b"", b"no video at all"])
def test_what_is_no_video_leaves_nothing(data: bytes, harness: ServiceHarness, tmp_path: Path) -> None:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type="video/mp4")
    session.write(data)
    with pytest.raises(errors.InvalidFileType, match="Invalid file type"):
        session.finish()
    session.abort()
    assert left_behind(tmp_path) == []
    assert harness.blobs.blobs == {}


def test_an_upload_that_is_given_up_leaves_nothing(harness: ServiceHarness, tmp_path: Path) -> None:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    session.abort()
    session.abort()
    assert left_behind(tmp_path) == []


def test_a_full_disk_leaves_nothing(harness: ServiceHarness, tmp_path: Path) -> None:
    harness.blobs.broken = True
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    with pytest.raises(errors.StorageFailed):
        session.finish()
    assert left_behind(tmp_path) == []


def test_an_upload_that_cannot_be_recorded_is_not_kept(
    harness: ServiceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object, **_options: object) -> None:
        raise errors.Unavailable("away")

    monkeypatch.setattr(harness.uploads, "add_upload", away)
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    with pytest.raises(errors.Unavailable):
        session.finish()
    assert harness.blobs.blobs == {}


def test_giving_up_after_the_end_keeps_the_upload(harness: ServiceHarness) -> None:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    upload = session.finish()
    session.abort()
    assert upload.blob in harness.blobs.blobs


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.mp4", "a.mp4"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/passwd", "passwd"),
        ("a\r\nSet-Cookie: x.mp4", "aSet-Cookie: x.mp4"),
        ("", ""),
        ("..", ""),
        ("x" * 300 + ".mp4", "x" * 251 + ".mp4"),
        ("\u202egpj.exe", "gpj.exe"),
    ],
)
def test_a_file_name_is_only_a_name(given: str, shown: str) -> None:
    assert plain_name(given) == shown


SECRET = "a secret"
CLAIM = signed_urls.FileGrant("outputs/job_1/1/result.webm", "my résumé & more.webm", 2_000_000_000)


def followed(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return parts.path.removeprefix("/files/"), dict(parse_qsl(parts.query, keep_blank_values=True))


def test_a_link_leads_back_to_what_it_was_made_of() -> None:
    blob, query = followed(signed_urls.sign(CLAIM, SECRET))
    assert signed_urls.verify(blob, query, SECRET, now=SettableClock().now()) == CLAIM


@pytest.mark.parametrize("part", ["blob", "name", "exp", "sig", "secret", "nothing"])
def test_a_link_that_was_touched_is_not_found(part: str) -> None:
    blob, query = followed(signed_urls.sign(CLAIM, SECRET))
    changed = {"blob": blob.replace("job_1", "job_2")}.get(part, blob)
    fake = {
        "name": {**query, "name": "other"},
        "exp": {**query, "exp": "3000000000"},
        "sig": {**query, "sig": "0" * 64},
        "nothing": {},
    }.get(part, query)
    with pytest.raises(errors.NotFound):
        signed_urls.verify(changed, fake, "other" if part == "secret" else SECRET, now=SettableClock().now())


@pytest.mark.parametrize("exp", ["", "-1", "1e9", "٣", "9" * 400, "0x10", "nan"])
def test_a_link_with_an_odd_time_is_not_found(exp: str) -> None:
    blob, query = followed(signed_urls.sign(CLAIM, SECRET))
    with pytest.raises(errors.NotFound):
        signed_urls.verify(blob, {**query, "exp": exp}, SECRET, now=SettableClock().now())


def test_a_link_expires(harness: ServiceHarness) -> None:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    link = harness.services.files.signer.upload_link(session.finish())
    assert link.expires_at == harness.clock.now() + timedelta(hours=1)
    harness.clock.advance(minutes=59)
    delivery = harness.services.files.open_download(*followed(link.url))
    assert (delivery.size, delivery.name, delivery.content_type) == (len(TINY_MP4), "a.mp4", "video/mp4")
    assert b"".join(delivery.read(4, 4)) == b"ftyp"
    harness.clock.advance(minutes=1)
    with pytest.raises(errors.NotFound, match="expired"):
        harness.services.files.open_download(*followed(link.url))


def test_a_link_to_what_is_gone_is_not_found(harness: ServiceHarness) -> None:
    blob, query = followed(
        signed_urls.sign(signed_urls.FileGrant("uploads/gone.mp4", "a", 2_000_000_000), harness.resolver.link_secret)
    )
    with pytest.raises(errors.NotFound):
        harness.services.files.open_download(blob, query)


def test_names_and_keys_cannot_be_shifted_into_each_other() -> None:
    one = signed_urls.sign(signed_urls.FileGrant("a/b", "c", 2_000_000_000), SECRET)
    other = signed_urls.sign(signed_urls.FileGrant("a", "/bc", 2_000_000_000), SECRET)
    assert followed(one)[1]["sig"] != followed(other)[1]["sig"]


def test_our_links_are_known_by_their_signature_under_any_host() -> None:
    link = signed_urls.sign(
        signed_urls.FileGrant("uploads/7d77f979-cb19-411c-9936-c27829c5bdc5.mp4", "a b+c.mp4", 5), SECRET
    )
    for base in ("", "https://cdn.example.com", "http://127.0.0.1:8080/prefix"):
        assert signed_urls.grant_of(base + link, SECRET) is not None
        assert signed_urls.upload_id(base + link) == "7d77f979-cb19-411c-9936-c27829c5bdc5"
        assert signed_urls.grant_of(base + link, "other") is None
    assert signed_urls.upload_id("https://example.com/a.mp4") is None


def test_a_refusal_names_the_file_as_its_sender_does(harness: ServiceHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> MediaInfo:
        raise errors.InvalidFileType(f"{path.name} is no video file.")

    monkeypatch.setattr(harness.services.uploads, "_inspect_media", refuse)
    for filename, told in (("my holiday.txt", "my holiday.txt"), ("", "The file")):
        session = harness.services.uploads.begin(ANYBODY, filename=filename, declared_type=None)
        session.write(b"words")
        with pytest.raises(errors.InvalidFileType, match=f"^{told} is no video file"):
            session.finish()


def test_pieces_of_every_size_are_hashed_and_written_in_their_order(tmp_path: Path) -> None:
    harness = open_harness(tmp_path, limits={"max_upload_bytes": 100_000_000})
    pieces = random.Random(5)
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    sent = [TINY_MP4]
    session.write(TINY_MP4)
    for _ in range(40):
        batch = [pieces.randbytes(pieces.choice((0, 1, 5_000, 700_000))) for _ in range(pieces.randrange(4))]
        session.write(*batch)
        sent += batch
    upload = session.finish()
    assert upload.sha256 == hashlib.sha256(b"".join(sent)).hexdigest()
    assert harness.blobs.blobs == {upload.blob: b"".join(sent)}
    harness.close()


def test_a_file_whose_sync_fails_is_not_recorded(
    harness: ServiceHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(service, "_sync", fail)
    harness.services.uploads.stores_files = True
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    with pytest.raises(errors.StorageFull):
        session.finish()
    assert harness.blobs.blobs == {}
    assert left_behind(tmp_path) == []


def test_a_hint_to_the_disk_is_never_an_error(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(bytes(100_000))
        begin_writeback(file.fileno(), 0, 100_000)
    begin_writeback(999_999, 0, 10)

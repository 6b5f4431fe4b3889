"""Uploads: forms as real clients send them, and malformed ones."""

import pytest

from alphareel.service.api_keys.admin import Operator
from alphareel.testing.fakes import TINY_MP4, TINY_PNG

BOUNDARY = "x-boundary-x"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(content=TINY_MP4, *, disposition='form-data; name="file"; filename="in.mp4"', content_type=None):
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n".encode()
    if content_type:
        head += f"Content-Type: {content_type}\r\n".encode()
    return head + b"\r\n" + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def send(client, body, headers=FORM, path="/v1/uploads"):
    return client.post(path, content=body, headers=headers)


def incoming(harness):
    return list(harness.services.uploads._settings.incoming.glob("*"))


def test_upload_answers_the_fields_of_the_contract(client):
    response = client.post("/v1/uploads", files={"file": ("input.mp4", TINY_MP4, "video/mp4")})
    body = response.json()
    assert response.status_code == 200
    assert (body["success"], body["filename"], body["size"]) == (True, "input.mp4", len(TINY_MP4))
    assert body["video_id"] in body["video_url"]
    assert body["video_url"].startswith("http://testserver/files/uploads/")


@pytest.mark.parametrize(
    "content_type",
    [
        *(None, "application/octet-stream", "video/mp4", "video/quicktime", "application/mp4"),
        *("application/mxf", "application/ogg", "application/vnd.ms-asf", "audio/3gpp", "audio/mp4"),
        *("text/vnd.trolltech.linguist", "model/vnd.mts"),  # for .ts and .mts in the lists of many systems
        *("application/force-download", "*/*", "undefined", "null", "video"),
    ],
)
def test_declared_type_of_the_part_does_not_matter_when_it_is_vague_or_video(client, content_type):
    assert send(client, part(content_type=content_type) + END).status_code == 200


@pytest.mark.parametrize("content_type", ["text/html", "application/pdf", "audio/mpeg", "application/x-mpegurl"])
def test_a_specific_type_other_than_video_is_refused(client, content_type):
    error = send(client, part(content_type=content_type) + END).json()["error"]
    assert error["code"] == "invalid_file_type"
    assert error["message"].startswith("Invalid file type")


def test_the_url_of_an_upload_is_accepted_as_video_url_without_the_network(client):
    uploaded = client.post("/v1/uploads", files={"file": ("in.mp4", TINY_MP4)}).json()
    job = client.post("/v1/jobs", json={"video_url": uploaded["video_url"]})
    assert job.status_code == 200


def test_uploaded_video_can_be_fetched_again(client):
    uploaded = client.post("/v1/uploads", files={"file": ("in.mp4", TINY_MP4)}).json()
    assert client.get(uploaded["video_url"]).content == TINY_MP4


def test_an_image_upload_is_accepted_and_also_returns_url(client):
    uploaded = client.post("/v1/uploads", files={"file": ("bg.png", TINY_PNG, "image/png")}).json()
    assert uploaded["url"] == uploaded["video_url"]
    job = {"video_url": "https://a.example/v.mp4", "bg_type": "image", "bg_image_url": uploaded["url"]}
    assert client.post("/v1/jobs", json=job).status_code == 200


def test_upload_of_another_key_can_be_used_only_by_its_signed_link(client, make_client, new_key):
    uploaded = client.post("/v1/uploads", files={"file": ("in.mp4", TINY_MP4)}).json()
    other = make_client(secret=new_key())
    path = uploaded["video_url"].removeprefix("http://testserver").partition("?")[0]
    assert other.post("/v1/jobs", json={"video_url": path}).status_code == 400
    assert other.post("/v1/jobs", json={"video_url": uploaded["video_url"]}).status_code == 200


def test_a_file_without_a_name_is_accepted(client):
    response = send(client, part(disposition='form-data; name="file"') + END)
    assert response.status_code == 200
    assert response.json()["filename"]


@pytest.mark.parametrize(
    ("disposition", "shown"),
    [
        ('form-data; name="file"; filename="../../etc/passwd"', "passwd"),
        ('form-data; name="file"; filename="C:\\\\Videos\\\\me.mp4"', "me.mp4"),
        ("form-data; name=\"file\"; filename*=UTF-8''na%C3%AFve%20clip.mp4", "naïve clip.mp4"),
        ('form-data; name="file"; filename="x.mp4"; filename*=UTF-8\'\'%E2%82%AC.mp4', "€.mp4"),
        ("form-data; name=\"file\"; filename*=nonsense''abc.mp4", "abc.mp4"),
        ("form-data; name=\"file\"; filename*=UTF-8''..%2F..%2Fx.mp4", "x.mp4"),
        ('form-data; name="file"; filename="naïve.mp4"', "naïve.mp4"),
        ("form-data; name=file; filename=plain.mp4", "plain.mp4"),
        ('form-data; name="file"; filename="a%22b.mp4"', 'a"b.mp4'),
        ('form-data; name="file"; filename="a\\"b.mp4"', 'a"b.mp4'),
        ('form-data; name="file"; filename="a"b.mp4"', 'a"b.mp4'),
        ('form-data; filename="a"b"c.mp4"; name="file"', 'a"b"c.mp4'),
        ('form-data; filename=""; name="file"', "upload.mp4"),
    ],
)
def test_file_names_are_decoded_and_lose_their_folders(client, disposition, shown):
    assert send(client, part(disposition=disposition) + END).json()["filename"] == shown


def test_a_file_without_a_name_does_not_get_that_of_an_earlier_one(client):
    client.post("/v1/uploads", files={"file": ("secret-plan.mp4", TINY_MP4)})
    response = send(client, part(disposition='form-data; name="file"') + END)
    assert response.json()["filename"] == "upload.mp4"


def test_small_fields_beside_the_file_are_ignored(client):
    note = part(b"hello", disposition='form-data; name="note"')
    assert send(client, note + part() + note + END).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        END,
        part(disposition='form-data; name="video"; filename="in.mp4"') + END,
        part(b"text", disposition='form-data; name="note"') + END,
        part() + part() + END,
        part(),
        part()[:-20],
        b"",
        b"not multipart at all",
        b"--" + BOUNDARY.encode() + b"\r\n\r\nno disposition\r\n" + END,
        part(disposition="attachment") + END,
        b"".join(part(b"", disposition=f'form-data; name="f{n}"') for n in range(40)) + END,
        b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 10_000 + b"\r\n\r\n" + END,
    ],
    ids=[
        "no parts", "wrong field name", "no file", "two files", "no end", "cut off", "empty", "garbage",
        "no disposition", "no form-data", "many parts", "long header",
    ],
)  # fmt: skip
def test_form_that_is_not_one_file_is_400_and_leaves_nothing_behind(client, harness, body):
    response = send(client, body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"
    assert "curl" in response.json()["error"]["message"]
    assert incoming(harness) == []


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "multipart/form-data", "multipart/mixed; boundary=a"]
)
def test_a_body_that_is_not_a_form_is_400(client, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    response = send(client, part() + END, headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


def test_file_that_is_no_video_is_invalid_file_type_and_leaves_nothing_behind(client, harness):
    response = client.post("/v1/uploads", files={"file": ("in.mp4", b"%PDF-1.4 no video")})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_file_type")
    assert incoming(harness) == []


def test_a_content_length_beyond_the_limit_is_refused_before_the_body_is_read(make_client):
    client = make_client(limits={"max_upload_bytes": 1000})
    response = send(client, b"x", {**FORM, "Content-Length": str(10**9)})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "file_too_large")
    assert response.json()["error"]["message"].startswith("File too large")


def test_body_without_a_length_is_cut_at_the_limit(client, harness):
    def endless():
        yield part()[:-2]
        for _ in range(200):
            yield bytes(100_000)

    response = send(client, endless())
    assert (response.status_code, response.json()["error"]["code"]) == (400, "file_too_large")
    assert incoming(harness) == []


def test_file_in_tiny_pieces_arrives_whole(client, harness):
    content = TINY_MP4 + bytes(range(256)) * 4
    body = part(content) + END
    response = send(client, (body[n : n + 7] for n in range(0, len(body), 7)))
    assert response.json()["size"] == len(content)
    assert client.get(response.json()["video_url"]).content == content


def test_a_large_file_is_written_in_few_chunks(client, harness, monkeypatch):
    pieces = []
    begin = harness.services.uploads.begin

    def counting(*args, **options):
        session = begin(*args, **options)
        write = session.write
        monkeypatch.setattr(session, "write", lambda data: (pieces.append(len(data)), write(data)))
        return session

    monkeypatch.setattr(harness.services.uploads, "begin", counting)
    content = TINY_MP4 + bytes(8_500_000)
    body = part(content) + END
    send(client, (body[n : n + 65536] for n in range(0, len(body), 65536)))
    assert sum(pieces) == len(content)
    assert len(pieces) <= 4


def test_upload_without_a_key_is_refused_before_the_form_is_looked_at(anonymous_client):
    response = send(anonymous_client, b"garbage")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "missing_api_key")


def test_a_content_length_beyond_the_quota_is_refused_before_the_body_is_read(client, harness, key):
    harness.services.admin.set_limits(
        Operator("test"), harness.keys.authenticate(key).fingerprint, {"max_storage_bytes": 100}
    )

    def body():
        yield b"--b"
        raise AssertionError("read on")

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "3000000"}
    refused = client.post("/v1/uploads", content=body(), headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "storage_quota_exceeded")


def test_usage_shows_what_is_kept_and_what_may_be(client, harness, key):
    client.post("/v1/uploads", files={"file": ("a.mp4", TINY_MP4)})
    harness.services.admin.set_limits(
        Operator("test"), harness.keys.authenticate(key).fingerprint, {"max_storage_bytes": 100}
    )
    size = len(TINY_MP4)
    assert client.get("/v1/usage/summary").json()["storage"] == {
        "used_bytes": size,
        "uploads_bytes": size,
        "outputs_bytes": 0,
        "max_bytes": 100,
    }


def test_the_same_file_under_another_name_is_fetched_by_its_own_link(client, harness):
    first, second = (client.post("/v1/uploads", files={"file": (n, TINY_MP4)}).json() for n in ("a.mp4", "b.mp4"))
    assert client.delete(f"/v1/uploads/{first['video_id']}").status_code == 200
    assert client.get(first["video_url"]).status_code == 404
    download = client.get(second["video_url"])
    assert (download.content, "b.mp4" in download.headers["Content-Disposition"]) == (TINY_MP4, True)

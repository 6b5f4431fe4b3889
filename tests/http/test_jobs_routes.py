"""The job routes as clients of the API contract use them."""

import re
import threading
import time
from datetime import datetime
from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from alphareel.service.urls import SOURCE_URL
from alphareel.testing.fakes import TINY_MP4

VIDEO = "https://example.com/in.mp4"


def create(client, **fields):
    return client.post("/v1/jobs", json={"video_url": VIDEO, **fields}).json()


def test_create_answers_200_with_both_ids_and_the_job(client):
    response = client.post("/v1/jobs", json={"video_url": VIDEO, "model": "human", "metadata": {"order": 7}})
    body = response.json()
    assert response.status_code == 200
    assert body["success"] is True
    assert body["id"] == body["job_id"]
    assert body["status"] == "processing"
    assert body["message"]
    assert (body["model"], body["metadata"], body["video_url"]) == ("human", {"order": 7}, VIDEO)


def test_draft_shows_as_created(client):
    assert create(client, auto_start=False)["status"] == "created"


def test_queued_job_shows_as_pending_only_when_the_operator_wants_it(make_client):
    assert create(make_client(jobs={"show_pending": True}))["status"] == "pending"


def test_status_filter_finds_a_queued_job_under_each_of_its_names(client):
    job = create(client)
    for status in ("pending", "processing", "created"):
        assert [item["id"] for item in client.get(f"/v1/jobs?status={status}").json()["items"]] == [job["id"]]
    assert client.get("/v1/jobs?status=completed").json()["items"] == []


def test_unknown_fields_are_ignored(client):
    assert "id" in create(client, future_field={"a": [1]})


def test_background_is_echoed_so_that_it_can_be_sent_again(client):
    background = create(client, bg_type="custom", bg_color=[1, 1, 0.99])["background"]
    assert background == {"type": "color", "color": "#FFFFFC", "image_url": None, "video_url": None, "radius": None}
    assert create(client, background=background)["background"] == background


@pytest.mark.parametrize(
    ("sent", "color"),
    [
        ({"bg_type": "green"}, "#09A246"),
        ({"bg_type": "white"}, "#FFFFFF"),
        ({"bg_type": "custom", "bg_color": "#010203"}, "#010203"),
        ({"bg_type": "color", "bg_color": "#010203"}, "#010203"),
        ({"bg_type": "transparent"}, None),
        ({"bg_type": "image", "bg_image_url": "https://a.example/b.png"}, None),
        ({"background": {"type": "black"}, "bg_type": "white"}, "#000000"),
    ],
)
def test_the_type_of_the_background_is_echoed_as_it_was_sent(client, sent, color):
    job = create(client, auto_start=False, **sent)
    assert job["bg_type"] == sent.get("background", {}).get("type", sent["bg_type"])
    assert job["background"]["color"] == color
    assert job["background"]["type"] == ("color" if color else sent["bg_type"])
    assert client.get(f"/v1/jobs/{job['id']}").json()["bg_type"] == job["bg_type"]


def test_composition_is_echoed_in_the_shape_in_which_it_is_sent(client):
    sent = {
        "canvas": {"width": 1920, "height": 1080},
        "foreground": {"anchor": "top-left", "scale": 0.5, "offset": {"x": 10.0, "y": -4.0}},
    }
    assert create(client, composition=sent)["composition"] == sent


def test_what_the_command_can_choose_can_be_chosen_here(client):
    chosen = {"engine": "chroma", "key_color": [0, 177, 64], "shadows": True, "grow": -1.5, "feather": 2}
    job = client.post("/v1/jobs", json={"video_url": VIDEO, **chosen, "auto_start": False}).json()
    shown = {"requested_engine": "chroma", "key_color": "#00B140", "shadows": True, "grow": -1.5, "feather": 2}
    assert {name: job[name] for name in shown} == shown
    assert (job["engine"], job["warnings"]) == (None, [])
    again = client.post(f"/v1/jobs/{job['id']}/start", json={"key_color": "#00ff00", "grow": 0}).json()
    assert (again["key_color"], again["grow"], again["feather"]) == ("#00FF00", 0, 2)


def test_options_of_one_engine_are_warned_about_with_another(client):
    job = client.post("/v1/jobs", json={"video_url": VIDEO, "key_color": "green", "shadows": True}).json()
    assert [warning.partition(" ")[0] for warning in job["warnings"]] == ["key_color", "shadows"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"engine": 7}, "engine"),
        ({"key_color": "no"}, "key_color"),
        ({"shadows": "yes"}, "shadows"),
        ({"grow": 51}, "grow"),
        ({"feather": -1}, "feather"),
        ({"plate": "/etc/passwd"}, "plate"),
        ({"plate": "https://a.example/empty.png"}, "plate"),
    ],
)
def test_bad_options_of_the_matte_are_refused(client, body, field):
    response = client.post("/v1/jobs", json={"video_url": VIDEO, **body})
    assert (response.status_code, response.json()["error"]["details"][0]["field"]) == (400, field)


def test_an_ignored_prompt_causes_a_warning(client):
    assert "pro" in create(client, text_prompt="dog", model="light")["warnings"][0]


@pytest.mark.parametrize("kwargs", [{"json": {}}, {}, {"content": b""}, {"content": b"  \n"}])
def test_start_takes_an_empty_object_and_no_body_at_all(client, kwargs):
    job = create(client, auto_start=False)
    response = client.post(f"/v1/jobs/{job['id']}/start", **kwargs)
    assert response.status_code == 200
    assert response.json()["id"] == response.json()["job_id"] == job["id"]
    assert response.json()["status"] == "processing"


def test_start_overrides_the_stored_fields(client):
    job = create(client, auto_start=False, bg_type="green")
    started = client.post(f"/v1/jobs/{job['id']}/start", json={"background": {"type": "transparent"}, "model": "pro"})
    assert started.json()["bg_type"] == "transparent"
    assert started.json()["model"] == "pro"


def test_start_overrides_metadata_and_video_too(client):
    job = create(client, auto_start=False, metadata={"order": 1})
    other = {"video_url": "https://b.example/other.mp4", "metadata": {"order": 2}}
    started = client.post(f"/v1/jobs/{job['id']}/start", json=other).json()
    assert (started["video_url"], started["metadata"]) == (other["video_url"], {"order": 2})
    kept = create(client, auto_start=False, metadata={"order": 1}, webhook_url="https://hook.example/a")
    started = client.post(f"/v1/jobs/{kept['id']}/start", json={"webhook_url": "", "video_url": ""}).json()
    for name in ("video_url", "metadata", "webhook_url"):
        assert started[name] == kept[name]


def test_null_at_the_start_stands_for_the_default_of_a_new_job(client):
    fields = {
        "model": "human", "output_format": "mp4", "background": "blur", "quality": "web", "text_prompt": "a dog",
        "preview_duration": 2, "engine": "chroma", "key_color": "#00ff00", "grow": 3, "metadata": {"order": 1},
        "webhook_url": "https://hook.example/a", "retention_seconds": 60, "test": "success", "keep_matte": False,
        "composition": {"canvas": {"width": 640}},
    }  # fmt: skip
    new = create(client, auto_start=False)
    draft = create(client, auto_start=False, **fields)
    response = client.post(f"/v1/jobs/{draft['id']}/start", json=dict.fromkeys(fields))
    assert response.status_code == 200
    started = response.json()
    own = {"id", "job_id", "status", "message", "created_at", "updated_at", "warnings", "request_id", "queue_position"}
    assert {n: v for n, v in started.items() if n not in own} == {n: v for n, v in new.items() if n not in own}


def test_null_at_the_start_removes_outputs_and_refuses_a_missing_video(client, harness):
    draft = create(client, auto_start=False, outputs=[{"format": "mov"}, {"format": "gif"}])
    unchanged = client.post(f"/v1/jobs/{draft['id']}/start", json={"video_url": None})
    assert (unchanged.status_code, unchanged.json()["error"]["details"][0]["field"]) == (400, "video_url")
    assert len(harness.jobs.job(draft["id"]).requested) == 2
    client.post(f"/v1/jobs/{draft['id']}/start", json={"outputs": None})
    assert [options.output_format for options in harness.jobs.job(draft["id"]).requested] == ["webm"]


@pytest.mark.parametrize(
    ("body", "field"), [({"metadata": "text"}, "metadata"), ({"video_url": "ftp://a/b"}, "video_url")]
)
def test_start_refuses_a_bad_metadata_or_video(client, body, field):
    job = create(client, auto_start=False)
    response = client.post(f"/v1/jobs/{job['id']}/start", json=body)
    assert response.status_code == 400
    assert [d["field"] for d in response.json()["error"]["details"]] == [field]


def test_start_of_a_completed_job_is_an_invalid_state(client, finish_job):
    job = create(client)
    finish_job(job["id"])
    response = client.post(f"/v1/jobs/{job['id']}/start")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "invalid_state")


def test_completed_job_carries_link_facts_and_engine(client, finish_job):
    job = create(client)
    finish_job(job["id"])
    body = client.get(f"/v1/jobs/{job['id']}").json()
    assert body["status"] == "completed"
    assert body["progress"] == 100
    assert body["output_url"].startswith(f"http://testserver/files/outputs/{job['id']}/")
    for name in ("created_at", "updated_at", "started_at", "completed_at", "expires_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body[name])
    assert body["expires_at"] > body["completed_at"]
    assert body["duration_seconds"] == 2.0
    assert body["output"]["size"] == 5120
    assert len(body["output"]["sha256"]) == 64
    facts = {"name": "builtin", "version": "1", "weights_sha256": "2" * 64, "license": "Apache-2.0"}
    assert {name: body["engine"][name] for name in facts} == facts
    assert body["engine"].keys() >= {"training_data", "author_statement"}
    assert body["error"] is None


def test_durations_are_rounded_to_milliseconds(client, finish_job):
    job = create(client)
    finish_job(job["id"], seconds=1.9556428571428572)
    body = client.get(f"/v1/jobs/{job['id']}").json()
    assert (body["duration_seconds"], body["output"]["seconds"]) == (1.956, 1.956)


def test_links_start_with_the_public_url(make_client, finish_job):
    client = make_client(http={"public_url": "https://video.example.org/cut/"})
    job = create(client)
    finish_job(job["id"])
    url = client.get(f"/v1/jobs/{job['id']}").json()["output_url"]
    assert url.startswith("https://video.example.org/cut/files/outputs/")


def test_links_start_with_the_cdn_whose_copy_ends_with_the_link(make_client, finish_job):
    client = make_client(http={"public_url": "https://video.example.org", "cdn_url": "https://cdn.example.org/reel/"})
    job = create(client)
    finish_job(job["id"])
    url = client.get(f"/v1/jobs/{job['id']}").json()["output_url"]
    assert url.startswith("https://cdn.example.org/reel/files/outputs/")
    cache = client.head(url.removeprefix("https://cdn.example.org/reel")).headers["cache-control"]
    assert re.fullmatch(r"public, max-age=\d+", cache)
    assert int(cache.rpartition("=")[2]) <= 3600
    assert "private" in make_client().head(url.removeprefix("https://cdn.example.org/reel")).headers["cache-control"]


def test_links_of_uploads_exports_and_embeds_start_with_the_cdn_and_nothing_else_does(make_client, finish_job):
    cdn = "https://cdn.example.org"
    client = make_client(http={"public_url": "https://video.example.org", "cdn_url": cdn})
    upload = client.post("/v1/uploads", files={"file": ("a.mp4", TINY_MP4)}).json()
    assert upload["video_url"].startswith(f"{cdn}/files/uploads/")
    assert client.get(upload["video_url"].removeprefix(cdn)).content == TINY_MP4
    job = create(client, video_url=upload["video_url"])
    finish_job(job["id"], matte=True)
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert all(output["url"].startswith(f"{cdn}/files/") for output in shown["outputs"])
    embed = client.get(f"/v1/jobs/{job['id']}/embed").json()
    assert embed["player"].startswith("https://video.example.org/")


def test_an_error_of_a_link_is_cached_by_nobody(make_client):
    client = make_client(http={"cdn_url": "https://cdn.example.org"})
    answer = client.get("/files/outputs/job_1/1/result.webm?exp=1&sig=2")
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_failed_job_has_a_plain_string_as_error(client, harness):
    job = create(client)
    harness.jobs.fail(job["id"], attempt=None, error="Cancelled", error_code="cancelled", actor="test")
    body = client.get(f"/v1/jobs/{job['id']}").json()
    assert (body["status"], body["error"], body["error_code"]) == ("failed", "Cancelled", "cancelled")
    assert body["output_url"] is None


def test_failed_job_can_be_started_again(client, harness):
    job = create(client)
    harness.jobs.fail(job["id"], attempt=None, error="Cancelled", error_code="cancelled", actor="test")
    body = client.post(f"/v1/jobs/{job['id']}/start").json()
    assert (body["status"], body["error"], body["error_code"]) == ("processing", None, None)


def test_job_of_another_key_is_not_found(client, make_client, new_key):
    job = create(client)
    response = make_client(secret=new_key()).get(f"/v1/jobs/{job['id']}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert response.json()["error"]["message"] == "Job not found"
    assert "id" in response.json()["error"]["hint"]


def test_list_is_an_object_with_newest_first(client, harness):
    ids = []
    for _ in range(3):
        harness.clock.advance(seconds=1)
        ids.append(create(client)["id"])
    body = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in body["items"]] == ids[:0:-1]
    assert body["jobs"] == body["items"]
    assert (body["total"], body["limit"], body["offset"], body["has_more"]) == (3, 2, 0, True)
    assert client.get("/v1/jobs", params={"limit": 2, "offset": 2}).json()["has_more"] is False


def test_empty_status_filter_is_no_filter(client):
    create(client)
    assert client.get("/v1/jobs?status=").json()["total"] == 1


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "offset=-1", f"offset={10**30}", "status=cancelled"]
)
def test_bad_list_parameters_are_400_and_name_the_field(client, query):
    response = client.get(f"/v1/jobs?{query}")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "invalid_request"
    assert error["details"][0]["field"] == query.split("=")[0]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "must be at least 1."),
        ("limit=101", "must be at most 100."),
        ("limit=x", "must be a whole number."),
        ("status=cancelled", "must be one of created, pending, processing, completed, failed."),
    ],
)
def test_bad_list_parameters_are_explained_in_plain_words(client, query, message):
    (detail,) = client.get(f"/v1/jobs?{query}").json()["error"]["details"]
    assert detail["message"] == message


def test_history_lists_transitions(client):
    job = create(client)
    body = client.get(f"/v1/jobs/{job['id']}/history").json()
    assert body["job_id"] == job["id"]
    first = body["items"][0]
    assert (first["from_status"], first["to_status"]) == (None, "pending")
    assert first["request_id"].startswith("req_")
    assert datetime.fromisoformat(first["at"]).tzinfo is not None


def test_a_poll_of_an_unchanged_job_has_no_body(client):
    job = create(client)
    first = client.get(f"/v1/jobs/{job['id']}")
    again = client.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_poll_after_progress_returns_the_new_state(client, harness):
    job = create(client)
    running = harness.jobs.begin_attempt(job["id"], ticket=harness.jobs.job(job["id"]).ticket, actor="worker")
    tag = client.get(f"/v1/jobs/{job['id']}").headers["etag"]
    harness.jobs.set_progress(job["id"], attempt=running.attempt, progress=41.26)
    response = client.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": tag})
    assert (response.status_code, response.json()["progress"]) == (200, 41.3)


def test_a_waiting_poll_is_answered_once_the_job_ends(client, finish_job):
    job = create(client)
    timer = threading.Timer(0.5, finish_job, [job["id"]])
    timer.start()
    began = time.monotonic()
    response = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60})
    timer.join()
    assert (response.status_code, response.json()["status"]) == (200, "completed")
    assert time.monotonic() - began < 50, "not only when the wait was over"
    assert client.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()["status"] == "completed", "at once"


def test_a_waiting_poll_of_an_unchanged_job_ends_after_the_time_that_it_asked_for(client):
    job = create(client)
    tag = client.get(f"/v1/jobs/{job['id']}").headers["etag"]
    began = time.monotonic()
    response = client.get(f"/v1/jobs/{job['id']}", params={"wait": 0.3}, headers={"If-None-Match": tag})
    assert (response.status_code, response.content) == (304, b"")
    assert time.monotonic() - began >= 0.3
    assert client.get(f"/v1/jobs/{job['id']}", params={"wait": 61}).status_code == 400
    assert client.get("/v1/jobs/job_unknown", params={"wait": 20}).status_code == 404


def test_a_waiting_poll_with_a_tag_is_answered_by_progress(client, harness):
    job = create(client)
    running = harness.jobs.begin_attempt(job["id"], ticket=harness.jobs.job(job["id"]).ticket, actor="worker")
    tag = client.get(f"/v1/jobs/{job['id']}").headers["etag"]
    timer = threading.Timer(0.3, lambda: harness.jobs.set_progress(job["id"], attempt=running.attempt, progress=50))
    timer.start()
    response = client.get(f"/v1/jobs/{job['id']}", params={"wait": 20}, headers={"If-None-Match": tag})
    timer.join()
    assert (response.status_code, response.json()["progress"]) == (200, 50)


def test_a_poll_learns_that_the_job_moved_up_in_the_queue(client, harness):
    harness.clock.advance(seconds=1)
    before = create(client)
    harness.clock.advance(seconds=1)
    job = create(client)
    first = client.get(f"/v1/jobs/{job['id']}")
    tag, place = {"If-None-Match": first.headers["etag"]}, first.json()["queue_position"]
    assert place == job["queue_position"] == before["queue_position"] + 1
    assert client.get(f"/v1/jobs/{job['id']}", headers=tag).status_code == 304
    client.post(f"/v1/jobs/{before['id']}/cancel")
    moved = client.get(f"/v1/jobs/{job['id']}", headers=tag)
    assert (moved.status_code, moved.json()["queue_position"]) == (200, place - 1)
    harness.jobs.begin_attempt(job["id"], ticket=1, actor="worker")
    assert client.get(f"/v1/jobs/{job['id']}").json()["queue_position"] is None


def test_completed_job_has_no_etag_because_its_link_is_always_fresh(client, finish_job):
    job = create(client)
    finish_job(job["id"])
    assert "etag" not in client.get(f"/v1/jobs/{job['id']}").headers


def test_repeated_cancels_return_the_ended_job(client):
    job = create(client)
    for _ in range(2):
        response = client.post(f"/v1/jobs/{job['id']}/cancel")
        body = response.json()
        assert (response.status_code, body["success"]) == (200, True)
        assert (body["status"], body["error"], body["error_code"]) == ("failed", "Cancelled", "cancelled")


def test_cancel_of_a_completed_job_is_an_invalid_state(client, finish_job):
    job = create(client)
    finish_job(job["id"])
    response = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "invalid_state")


def test_repeating_the_creation_of_a_deleted_job_reveals_nothing_and_creates_no_other(client):
    request = {"json": {"video_url": VIDEO, "metadata": {"name": "private"}}, "headers": {"Idempotency-Key": "one"}}
    job = client.post("/v1/jobs", **request).json()
    client.delete(f"/v1/jobs/{job['id']}")
    again = client.post("/v1/jobs", **request)
    assert again.json()["id"] == job["id"]
    assert "private" not in again.text
    assert client.get("/v1/jobs").json()["total"] == 0


def test_deleted_job_is_gone_with_its_result(client, finish_job):
    job = create(client)
    finish_job(job["id"])
    link = client.get(f"/v1/jobs/{job['id']}").json()["output_url"]
    response = client.delete(f"/v1/jobs/{job['id']}")
    assert (response.status_code, response.json()["deleted"]) == (200, True)
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert client.get(link).status_code == 404
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 404


def test_an_invalid_start_body_is_refused_even_for_a_running_job(client):
    running = client.post("/v1/jobs", json={"video_url": "https://a.example/v.mp4"}).json()["id"]
    response = client.post(f"/v1/jobs/{running}/start", json={"composition": {"canvas": 7}})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("host", ["u*", "exämple.org", "-a.example", "a..example/../b c", "a.example."])
def test_a_url_with_an_impossible_host_is_refused_with_a_hint(client, host):
    response = client.post("/v1/jobs", json={"video_url": f"https://{host}/v.mp4"})
    assert response.status_code == 400
    assert "video_url" in response.text


@pytest.mark.parametrize(
    "host", ["a.example", "192.0.2.7:8443", "[2001:db8::1]", "xn--exmple-cua.org", "under_score.example"]
)
def test_urls_with_every_kind_of_host_are_accepted(client, host):
    assert client.post("/v1/jobs", json={"video_url": f"https://{host}/v.mp4"}).status_code == 200


_ADDRESS = TypeAdapter(Annotated[str, Field(pattern=SOURCE_URL.schema["pattern"])])


def documented(url: str) -> bool:
    try:
        _ADDRESS.validate_python(url)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("place", "is_taken"),
    [
        ("a.example", True),
        ("a.example:8443", True),
        ("a.example:65535", True),
        ("a.example:65536", False),
        ("a.example:0", False),
        ("a.example:00", False),
        ("[::1]:0", False),
        ("192.0.2.7", True),
        ("[2001:db8::7]", True),
        ("[2001:db8::7]:8443", True),
        ("[1:2:3:4:5:6:7:8]", True),
        ("[::]", True),
        ("[::1::2]", False),
        ("[1:2:3]", False),
        ("[fe80::1%25eth0]", False),
        ("[::ffff:192.0.2.7]", False),
        ("[v1.a]", False),
        ("[::1]a", False),
        ("a[::1]", False),
        ("a.example:", False),
    ],
)
def test_the_service_accepts_the_hosts_that_its_document_allows(client, place, is_taken):
    url = f"https://{place}/v.mp4"
    response = client.post("/v1/jobs", json={"video_url": url, "webhook_url": url, "auto_start": False})
    assert (response.status_code == 200, documented(url)) == (is_taken, is_taken)

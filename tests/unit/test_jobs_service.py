"""The use cases, on a real store: who may do what, in which state, with which words."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain import errors
from alphareel.domain.options import Background
from alphareel.service.api_keys.admin import Operator
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.api_keys.service import NewKey, digest
from alphareel.service.files.signed_urls import FileGrant, sign
from alphareel.service.jobs.models import Job, Status
from alphareel.service.jobs.service import make_job_id
from alphareel.service.principal import Principal
from alphareel.service.uploads import source_urls
from alphareel.testing.fakes import TINY_MP4, TINY_PNG, ServiceHarness, open_harness

VIDEO = {"video_url": "https://example.com/a.mp4"}
ANYBODY = Principal(None, "req_0")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def caller(harness: ServiceHarness) -> Principal:
    return Principal(make_key(harness, "one"), "req_1")


@pytest.fixture
def stranger(harness: ServiceHarness) -> Principal:
    return Principal(make_key(harness, "two"), "req_2")


def make_key(harness: ServiceHarness, name: str) -> ApiKey:
    key = harness.keystore.add_key(key_id=name, secret_sha256=digest(name), fingerprint=name, client_id=name, note="")
    assert key is not None
    return key


def upload(harness: ServiceHarness, caller: Principal, data: bytes = TINY_MP4) -> str:
    session = harness.services.uploads.begin(caller, filename="a.mp4", declared_type=None)
    session.write(data)
    return harness.services.files.signer.upload_link(session.finish()).url


def finish(harness: ServiceHarness, job: Job, status: Status) -> None:
    harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="w")
    with harness.database.write() as c:
        c.exec_driver_sql(f"UPDATE ar_jobs SET status = '{status}' WHERE id = '{job.id}'")


class TestCreating:
    def test_queues_a_job_at_once(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        assert (job.status, job.key_id, job.request_id) == (Status.PENDING, caller.key and caller.key.id, "req_1")
        assert harness.engine.queued == [(job.id, 1)]

    def test_keeps_a_draft_for_later(self, harness: ServiceHarness, caller: Principal) -> None:
        assert harness.services.jobs.create(caller, {**VIDEO, "auto_start": False}).status is Status.CREATED
        assert harness.engine.queued == []

    def test_starts_drafts_where_the_route_says_so(self, harness: ServiceHarness) -> None:
        assert (
            harness.services.jobs.create(ANYBODY, {**VIDEO, "auto_start": False}, auto_start=True).status
            is Status.PENDING
        )

    def test_names_a_bad_field_of_several_outputs_once(self, harness: ServiceHarness, caller: Principal) -> None:
        outputs = [{"format": "webm"}, {"format": "mov"}]
        draft = harness.services.jobs.create(caller, {**VIDEO, "auto_start": False, "outputs": outputs})
        with pytest.raises(errors.InvalidRequest) as caught:
            harness.services.jobs.start(caller, draft.id, {"grow": 99})
        assert [detail.field for detail in caught.value.details] == ["grow"]

    def test_names_every_bad_field_at_once(self, harness: ServiceHarness, caller: Principal) -> None:
        body = {
            "video_url": "ftp://example.com/a",
            "model": "best",
            "auto_start": "yes",
            "metadata": [],
            "webhook_url": "mailto:a@b",
            "preview_duration": -1,
        }
        with pytest.raises(errors.InvalidRequest) as refusal:
            harness.services.jobs.create(caller, body)
        assert {p.field for p in refusal.value.details} == set(body)

    @pytest.mark.parametrize(
        "url", [None, "", "a.mp4", "http://", "http://u:p@example.com/a", 7, "http://a b/", "x" * 5000]
    )
    def test_needs_a_url_that_is_one(self, url: Any, harness: ServiceHarness, caller: Principal) -> None:
        with pytest.raises(errors.InvalidRequest) as refusal:
            harness.services.jobs.create(caller, {"video_url": url})
        assert [p.field for p in refusal.value.details] == ["video_url"]

    def test_refuses_a_background_that_is_a_path_of_the_server(
        self, harness: ServiceHarness, caller: Principal
    ) -> None:
        for path in ("/etc/passwd", "file:///etc/passwd", "background.png"):
            with pytest.raises(errors.InvalidRequest):
                harness.services.jobs.create(caller, {**VIDEO, "background": {"type": "image", "image_url": path}})

    def test_refuses_a_background_video_that_is_no_address(self, harness: ServiceHarness, caller: Principal) -> None:
        for url in ("/etc/passwd", "file:///etc/passwd", "clip.mp4", "", None):
            with pytest.raises(errors.InvalidRequest) as refusal:
                harness.services.jobs.create(caller, {**VIDEO, "background": {"type": "video", "video_url": url}})
            assert [p.field for p in refusal.value.details] == ["background.video_url"]

    def test_takes_a_background_video_by_its_address(self, harness: ServiceHarness, caller: Principal) -> None:
        for background in ({"type": "video", "video_url": "https://example.com/b.mp4"}, {"video_url": "http://b/c"}):
            job = harness.services.jobs.create(caller, {**VIDEO, "output_format": "mp4", "background": background})
            assert job.options.background == Background("video", video_url=background["video_url"])

    def test_takes_a_blur(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, {**VIDEO, "background": {"type": "blur", "radius": 9}})
        assert job.options.background == Background("blur", radius=9.0)

    def test_takes_metadata_up_to_a_size(self, harness: ServiceHarness, caller: Principal) -> None:
        for text in ("x" * 16000, "ü" * 8000, "🎬" * 4000):  # 16,000 bytes each
            metadata = {"a": text}
            assert harness.services.jobs.create(caller, {**VIDEO, "metadata": metadata}).metadata == metadata
        with pytest.raises(errors.InvalidRequest, match="it has 17009"):
            harness.services.jobs.create(caller, {**VIDEO, "metadata": {"a": "é" * 8500}})
        for bad in ({"a": "x" * 17000}, {"a": float("nan")}, {"a": "\0"}, "text"):
            with pytest.raises(errors.InvalidRequest):
                harness.services.jobs.create(caller, {**VIDEO, "metadata": bad})

    def test_says_when_nothing_here_can_serve_it(self, harness: ServiceHarness, caller: Principal) -> None:
        harness.capabilities.error = errors.ModelUnavailable("No engine.")
        with pytest.raises(errors.ModelUnavailable):
            harness.services.jobs.create(caller, {**VIDEO, "model": "pro"})
        assert harness.services.jobs.list(caller, limit=10, offset=0, status=None).total == 0

    def test_takes_drafts_and_tests_that_nothing_here_can_serve_and_warns(
        self, harness: ServiceHarness, caller: Principal
    ) -> None:
        harness.capabilities.error = errors.ModelUnavailable("No engine.", hint="Install one.")
        draft = harness.services.jobs.create(caller, {**VIDEO, "model": "pro", "auto_start": False})
        assert draft.warnings == ("No engine. Install one.",)
        assert (
            harness.services.jobs.create(caller, {**VIDEO, "model": "pro", "test": "success"}).warnings
            == draft.warnings
        )
        with pytest.raises(errors.ModelUnavailable):
            harness.services.jobs.start(caller, draft.id, {})
        assert harness.services.jobs.start(caller, draft.id, {"test": "success"}).status is Status.PENDING

    def test_warns_of_the_engine_that_stands_in(self, harness: ServiceHarness, caller: Principal) -> None:
        harness.capabilities.warnings = ("Another engine serves.",)
        job = harness.services.jobs.create(caller, {**VIDEO, "auto_start": False})
        assert job.warnings == harness.services.jobs.start(caller, job.id, {}).warnings == ("Another engine serves.",)

    def test_warns_of_what_has_no_effect(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, {**VIDEO, "text_prompt": "a cat"})
        assert "text_prompt" in job.warnings[0]

    @pytest.mark.parametrize(
        ("host", "refused"),
        [
            ("127.0.0.1:5678", True),
            ("localhost:5678", True),
            ("10.1.2.3", True),
            ("[::1]:9000", True),
            ("169.254.169.254", True),
            ("93.184.215.14", False),
            ("93.184.215.14:25", True),
            ("n8n.internal", False),  # only a look-up tells
        ],
    )
    def test_warns_of_urls_whose_address_is_known_to_be_refused(
        self, harness: ServiceHarness, caller: Principal, host: str, *, refused: bool
    ) -> None:
        job = harness.services.jobs.create(
            caller, {"video_url": f"http://{host}/in.mp4", "webhook_url": f"http://{host}/hook"}
        )
        assert [warning.partition(":")[0] for warning in job.warnings] == ["video_url", "webhook_url"] * refused
        assert all("ALPHAREEL_FETCH_ALLOW_CIDRS" in warning for warning in job.warnings)

    def test_does_not_warn_of_its_own_links_on_a_private_address(
        self, harness: ServiceHarness, caller: Principal, stranger: Principal
    ) -> None:
        link = f"http://127.0.0.1:8080{upload(harness, caller)}"
        for principal in (caller, stranger):
            assert harness.services.jobs.create(principal, {"video_url": link}).warnings == ()

    def test_makes_ids_that_cannot_be_guessed(self) -> None:
        assert len({make_job_id() for _ in range(1000)}) == 1000
        assert len(make_job_id()) == len("job_") + 40


class TestSources:
    def test_an_own_upload_is_accepted_by_its_link(self, harness: ServiceHarness, caller: Principal) -> None:
        assert harness.services.jobs.create(caller, {"video_url": upload(harness, caller)}).status is Status.PENDING

    def test_an_own_upload_is_known_under_any_address_and_without_its_query(
        self, harness: ServiceHarness, caller: Principal
    ) -> None:
        path = upload(harness, caller).partition("?")[0]
        for url in (f"https://cdn.example.com/prefix{path}", f"http://127.0.0.1:8080{path}", path):
            job = harness.services.jobs.create(caller, {"video_url": url})
            found = harness.resolver.find(source_urls.source(job.video_url), key_id=job.key_id)
            assert found is not None

    def test_an_upload_of_another_key_does_not_exist_without_its_signed_link(
        self, harness: ServiceHarness, caller: Principal, stranger: Principal
    ) -> None:
        path = upload(harness, caller).partition("?")[0]
        for principal in (stranger, ANYBODY):
            for url in (path, f"{path}?exp=9999999999&name=a&sig=b"):
                with pytest.raises(errors.InvalidRequest, match="no such upload"):
                    harness.services.jobs.create(principal, {"video_url": url})

    def test_a_signed_link_to_an_upload_is_accepted_with_any_key_until_it_expires(
        self, harness: ServiceHarness, caller: Principal, stranger: Principal
    ) -> None:
        link = f"https://anywhere.example.com{upload(harness, caller)}"
        for principal in (stranger, ANYBODY):
            job = harness.services.jobs.create(principal, {"video_url": link})
            assert (job.video_url, job.status) == (link, Status.PENDING)
        harness.clock.advance(seconds=3600)
        with pytest.raises(errors.InvalidRequest, match="video_url: this link has expired"):
            harness.services.jobs.create(stranger, {"video_url": link})
        assert harness.services.jobs.create(caller, {"video_url": link}).status is Status.PENDING

    def test_a_signed_link_to_a_removed_upload_is_refused(
        self, harness: ServiceHarness, caller: Principal, stranger: Principal
    ) -> None:
        link = upload(harness, caller)
        harness.services.uploads.delete(caller, link.partition("/uploads/")[2][:36])
        with pytest.raises(errors.InvalidRequest, match="no such upload"):
            harness.services.jobs.create(stranger, {"video_url": link})

    def test_a_signed_link_to_a_result_is_accepted_and_one_to_anything_else_is_not(
        self, harness: ServiceHarness, caller: Principal
    ) -> None:
        expires = int(harness.clock.now().timestamp()) + 60
        links = {
            folder: sign(FileGrant(f"{folder}/job_1/1/result.webm", "a.webm", expires), harness.resolver.link_secret)
            for folder in ("outputs", "previews", "chunks", "fetched")
        }
        assert harness.services.jobs.create(caller, {"video_url": links.pop("outputs")}).status is Status.PENDING
        for link in links.values():
            with pytest.raises(errors.InvalidRequest, match="no such upload"):
                harness.services.jobs.create(caller, {"video_url": link})

    def test_an_upload_without_a_key_is_open_to_all(self, harness: ServiceHarness, caller: Principal) -> None:
        assert harness.services.jobs.create(caller, {"video_url": upload(harness, ANYBODY)}).status is Status.PENDING

    def test_a_foreign_address_that_looks_like_an_upload_is_just_an_address(
        self, harness: ServiceHarness, caller: Principal
    ) -> None:
        url = "https://other.example.com/files/uploads/7d77f979-cb19-411c-9936-c27829c5bdc5.mp4?exp=9&name=a&sig=b"
        assert harness.services.jobs.create(caller, {"video_url": url}).video_url == url

    def test_a_picture_is_no_video_and_a_video_no_background(self, harness: ServiceHarness, caller: Principal) -> None:
        picture, video = upload(harness, caller, TINY_PNG), upload(harness, caller)
        with pytest.raises(errors.InvalidRequest, match="kind image"):
            harness.services.jobs.create(caller, {"video_url": picture})
        with pytest.raises(errors.InvalidRequest, match="kind video"):
            harness.services.jobs.create(caller, {"video_url": video, "bg_type": "image", "bg_image_url": video})
        with pytest.raises(errors.InvalidRequest, match="kind image"):
            harness.services.jobs.create(
                caller, {"video_url": video, "background": {"type": "video", "video_url": picture}}
            )
        job = harness.services.jobs.create(caller, {"video_url": video, "bg_type": "image", "bg_image_url": picture})
        assert job.options.background.image_url == picture

    def test_an_upload_of_another_key_is_no_background(
        self, harness: ServiceHarness, caller: Principal, stranger: Principal
    ) -> None:
        behind = {"type": "video", "video_url": upload(harness, caller).partition("?")[0]}
        with pytest.raises(errors.InvalidRequest, match=r"background\.video_url: there is no such upload"):
            harness.services.jobs.create(stranger, {**VIDEO, "background": behind})


class TestStarting:
    @pytest.fixture
    def draft(self, harness: ServiceHarness, caller: Principal) -> Job:
        return harness.services.jobs.create(
            caller, {**VIDEO, "auto_start": False, "bg_type": "green", "webhook_url": "http://h/1"}
        )

    def test_queues_a_draft(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        assert harness.services.jobs.start(caller, draft.id, {}).status is Status.PENDING
        assert harness.engine.queued == [(draft.id, 1)]

    def test_replaces_what_the_body_names_and_keeps_the_rest(
        self, harness: ServiceHarness, caller: Principal, draft: Job
    ) -> None:
        job = harness.services.jobs.start(
            caller, draft.id, {"model": "human", "background": {"type": "color", "color": "#fff"}}
        )
        assert job.options.model == "human"
        assert job.options.background == Background("color", (255, 255, 255))
        assert job.webhook_url == "http://h/1"

    def test_twice_is_one_run(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        first = harness.services.jobs.start(caller, draft.id, {})
        assert harness.services.jobs.start(caller, draft.id, {"model": "light"}) == first
        assert len(harness.engine.queued) == 1

    def test_at_the_same_moment_is_one_run(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        barrier = threading.Barrier(6)

        def start() -> None:
            barrier.wait()
            answers.append(harness.services.jobs.start(caller, draft.id, {}).status)

        answers: list[Status] = []
        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [Status.PENDING] * 6
        assert len(harness.engine.queued) == 1

    def test_of_a_running_job_changes_nothing(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        job = harness.services.jobs.start(caller, draft.id, {})
        finish(harness, job, Status.PROCESSING)
        assert harness.services.jobs.start(caller, draft.id, {}).status is Status.PROCESSING

    def test_of_a_failed_job_queues_it_again(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        job = harness.services.jobs.start(caller, draft.id, {})
        harness.jobs.fail(job.id, attempt=None, error="x", error_code="timeout", actor="w")
        again = harness.services.jobs.start(caller, draft.id, {})
        assert (again.status, again.run, again.error) == (Status.PENDING, 2, None)

    def test_of_a_completed_job_is_refused(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        finish(harness, harness.services.jobs.start(caller, draft.id, {}), Status.COMPLETED)
        with pytest.raises(errors.InvalidState):
            harness.services.jobs.start(caller, draft.id, {})

    def test_checks_the_body_like_creating_does(self, harness: ServiceHarness, caller: Principal, draft: Job) -> None:
        with pytest.raises(errors.InvalidRequest):
            harness.services.jobs.start(caller, draft.id, {"background": {"type": "image", "image_url": "/etc/passwd"}})
        assert harness.services.jobs.get(caller, draft.id).status is Status.CREATED


class TestIsolation:
    def test_a_job_of_another_key_does_not_exist(
        self, harness: ServiceHarness, caller: Principal, stranger: Principal
    ) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        uses = (
            lambda: harness.services.jobs.get(stranger, job.id),
            lambda: harness.services.jobs.start(stranger, job.id, {}),
            lambda: harness.services.jobs.events(stranger, job.id),
            lambda: harness.services.jobs.completed(stranger, job.id),
        )
        for use in uses:
            with pytest.raises(errors.NotFound, match="Job not found"):
                use()
        assert harness.services.jobs.list(stranger, limit=10, offset=0, status=None).total == 0

    def test_without_a_key_the_id_opens_the_job(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        assert harness.services.jobs.get(ANYBODY, job.id).id == job.id


class TestListing:
    @pytest.fixture(autouse=True)
    def some(self, harness: ServiceHarness, caller: Principal) -> None:
        for n in range(4):
            harness.clock.advance(seconds=1)
            job = harness.services.jobs.create(caller, {**VIDEO, "auto_start": n > 0})
            if n == 2:
                finish(harness, job, Status.PROCESSING)
            if n == 3:
                finish(harness, job, Status.COMPLETED)

    @pytest.mark.parametrize(
        ("status", "count"),
        [("created", 2), ("pending", 2), ("processing", 2), ("completed", 1), ("failed", 0), (None, 4)],
    )
    def test_filters_as_jobs_are_shown(
        self, status: str | None, count: int, harness: ServiceHarness, caller: Principal
    ) -> None:
        assert harness.services.jobs.list(caller, limit=10, offset=0, status=status).total == count

    def test_tells_queued_from_running_where_the_operator_wants_it(
        self, harness: ServiceHarness, caller: Principal, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        plain = open_harness(
            tmp_path / "other", database_url=f"sqlite:///{tmp_path / 'test.db'}", jobs={"show_pending": True}
        )
        assert plain.services.jobs.list(caller, limit=10, offset=0, status="processing").total == 1
        plain.close()

    @pytest.mark.parametrize(
        ("limit", "offset", "status"), [(0, 0, None), (101, 0, None), (1, -1, None), (1, 0, "gone")]
    )
    def test_refuses_what_is_out_of_bounds(
        self, limit: int, offset: int, status: str | None, harness: ServiceHarness, caller: Principal
    ) -> None:
        with pytest.raises(errors.InvalidRequest):
            harness.services.jobs.list(caller, limit=limit, offset=offset, status=status)


class TestKeys:
    def test_are_asked_for_and_checked(self, harness: ServiceHarness) -> None:
        for nothing in (None, ""):
            with pytest.raises(errors.MissingApiKey):
                harness.services.api_keys.authenticate(nothing)
        for wrong in ("wrong", "x" * 10_000, "ünïcode", "\udcff"):
            with pytest.raises(errors.InvalidApiKey):
                harness.services.api_keys.authenticate(wrong)

    @pytest.mark.parametrize("shape", ["plain", "with spaces and ünïcode", "ar_live_fake_shape", "x" * 1000])
    def test_from_the_settings_may_have_any_shape(self, shape: str, harness: ServiceHarness) -> None:
        harness.keys.admit(shape)
        assert harness.services.api_keys.authenticate(shape).enabled

    def test_from_the_settings_keep_their_jobs_when_the_value_changes(self, harness: ServiceHarness) -> None:
        harness.keys.admit("the old one")
        old = Principal(harness.services.api_keys.authenticate("the old one"), "r")
        job = harness.services.jobs.create(old, VIDEO)
        harness.keys.admit("the new one")
        new = Principal(harness.services.api_keys.authenticate("the new one"), "r")
        assert harness.services.jobs.get(new, job.id).id == job.id
        with pytest.raises(errors.InvalidApiKey):
            harness.services.api_keys.authenticate("the old one")

    def test_are_made_once_for_a_new_installation(self, harness: ServiceHarness) -> None:
        made = harness.keys.make_first()
        assert isinstance(made, NewKey)
        assert harness.services.api_keys.authenticate(made.secret) == made.key
        assert harness.keys.make_first() is None

    def test_are_stored_without_their_secret(self, harness: ServiceHarness, tmp_path: Path) -> None:
        made = harness.keys.make_first()
        assert made is not None
        with harness.database.read() as c:
            stored = str(c.exec_driver_sql("SELECT * FROM ar_keys").all())
        assert made.secret not in stored
        assert made.secret.rpartition("_")[2] not in stored

    def test_that_are_disabled_are_unknown(self, harness: ServiceHarness) -> None:
        harness.keys.admit("some secret")
        with harness.database.write() as c:
            c.exec_driver_sql("UPDATE ar_keys SET enabled = false")
        with pytest.raises(errors.InvalidApiKey):
            harness.services.api_keys.authenticate("some secret")


class TestHealth:
    def test_sees_what_is_there(self, harness: ServiceHarness) -> None:
        assert not harness.services.health.check().worker
        harness.executors.add_executor("w", home="")
        health = harness.services.health.check()
        assert (health.database, health.storage, health.worker) == (True, True, True)

    def test_survives_a_database_that_is_away(self, harness: ServiceHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        def away() -> bool:
            raise errors.Unavailable("away")

        monkeypatch.setattr(harness.jobs, "is_ready", away)
        assert harness.services.health.check().database is False


class TestAClientWithTwoKeys:
    @pytest.fixture
    def callers(self, tmp_path: Path) -> Iterator[Any]:
        opened = []

        def make(*, share: bool) -> tuple[ServiceHarness, Principal, Principal, Principal]:
            harness = open_harness(tmp_path, jobs={"share_within_client": share})
            opened.append(harness)
            made = [harness.services.admin.create_key(Operator("t"), client_id=client) for client in ("a", "a", "b")]
            one, two, other = (Principal(harness.services.api_keys.authenticate(key.secret), "r") for key in made)
            return harness, one, two, other

        yield make
        for harness in opened:
            harness.close()

    def test_sees_with_each_what_that_one_made(self, callers: Any) -> None:
        harness, one, two, _ = callers(share=False)
        job = harness.services.jobs.create(one, VIDEO)
        with pytest.raises(errors.NotFound):
            harness.services.jobs.get(two, job.id)
        assert harness.services.jobs.list(two, limit=9, offset=0, status=None).total == 0

    def test_sees_with_each_what_both_made_where_the_operator_wants_it_so(self, callers: Any) -> None:
        harness, one, two, other = callers(share=True)
        job = harness.services.jobs.create(one, VIDEO)
        assert harness.services.jobs.get(two, job.id).id == job.id
        assert harness.services.jobs.list(two, limit=9, offset=0, status=None).total == 1
        assert harness.services.jobs.cancel(two, job.id).error_code == "cancelled"
        with pytest.raises(errors.NotFound):
            harness.services.jobs.get(other, job.id)
        assert harness.services.jobs.list(other, limit=9, offset=0, status=None).total == 0

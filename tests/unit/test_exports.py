"""Several outputs of one job, and further ones of its matte: who may ask for them, and what becomes of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain import errors
from alphareel.domain.clip import EngineFacts
from alphareel.service.api_keys.admin import Operator
from alphareel.service.billing.credits import parse_prices
from alphareel.service.exports.service import ExportService
from alphareel.service.jobs.models import Billing, Job, Kind, Output, Status, StoredMatte
from alphareel.service.principal import Principal
from alphareel.testing.fakes import TINY_MP4, ServiceHarness

OPERATOR = Operator("tests", "req_0")


def submit(harness: ServiceHarness, caller: Principal, **fields: Any) -> Job:
    session = harness.services.uploads.begin(caller, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    url = harness.services.files.signer.upload_link(session.finish()).url
    return harness.services.jobs.create(caller, {"video_url": url, **fields})


def finish(
    harness: ServiceHarness, job: Job, folder: Path, *, matte: bool = True, report: dict[str, Any] | None = None
) -> Job:
    """What a worker does: it stores the outputs, and the matte if that is kept."""
    begun = harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="w")
    assert begun is not None
    outputs = []
    for number, options in enumerate(job.requested):
        blob = f"outputs/{job.id}/{begun.attempt}/{number}.webm"
        put(harness, blob, folder)
        name = options.output_format
        outputs.append(Output(blob, name, "video/webm", 4, "ab" * 32, 64, 48, 10, 0.4, True, False, source_seconds=30))
    kept = None
    if matte and job.kind in (Kind.JOB, Kind.CORRECTION):
        blob = f"mattes/{job.id}/{begun.attempt}/m.mkv"
        put(harness, blob, folder)
        kept = StoredMatte(blob, 4, "cd" * 32, 10, "uploads/source.mp4")
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    assert harness.jobs.complete(
        job.id, attempt=begun.attempt, output=outputs[0], more_outputs=tuple(outputs[1:]), matte=kept, engine=facts,
        warnings=(), actor="w", report=report,
    )  # fmt: skip
    found = harness.jobs.job(job.id)
    assert found is not None
    return found


def put(harness: ServiceHarness, blob: str, folder: Path) -> None:
    (folder / "made").write_bytes(b"made")
    harness.blobs.put_file(blob, folder / "made")


TWO = [{"format": "webm"}, {"format": "mp4", "background": "white"}]


def test_outputs_take_what_they_leave_out_from_the_job(harness: ServiceHarness, caller: Principal) -> None:
    job = submit(harness, caller, quality="web", model="human", outputs=[*TWO, {"format": "mov", "quality": "master"}])
    assert [o.output_format for o in job.requested] == ["webm", "mp4", "mov"]
    assert [o.quality for o in job.requested] == ["web", "web", "master"]
    assert {o.model for o in job.requested} == {"human"}


@pytest.mark.parametrize(
    ("outputs", "field"),
    [
        ([{"format": "webm"}, {"format": "webm", "quality": "web"}], "outputs.1.format"),
        ([{"format": name} for name in ("webm", "mov", "gif", "webp", "apng", "ffv1", "matte", "poster", "mp4")], "outputs"),
        ([], "outputs"),
        ("webm", "outputs"),
        (["webm"], "outputs.0"),
        ([{"quality": "web"}], "outputs.0.format"),
        ([{"format": "webm"}, {"format": "mp4"}], "outputs.1.format"),
        ([{"format": "webm", "background": {"type": "image", "image_url": "ftp://a/b"}}], "outputs.0.background.image_url"),
    ],
)  # fmt: skip
def test_bad_outputs_are_named(harness: ServiceHarness, caller: Principal, outputs: Any, field: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        submit(harness, caller, outputs=outputs)
    assert [detail.field for detail in caught.value.details] == [field]


def test_a_start_changes_the_outputs(harness: ServiceHarness, caller: Principal) -> None:
    def started(**fields: Any) -> list[tuple[str, str]]:
        draft = submit(harness, caller, outputs=TWO, auto_start=False)
        job = harness.services.jobs.start(caller, draft.id, fields)
        return [(o.output_format, o.quality) for o in job.requested]

    assert started(quality="web") == [("webm", "web"), ("mp4", "web")]
    assert started(output_format="mov") == [("mov", "balanced")]
    assert started(outputs=[{"format": "gif"}]) == [("gif", "balanced")]


def test_an_export_is_made_once_and_listed_with_its_job(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    job = finish(harness, submit(harness, caller, outputs=TWO), tmp_path)
    export = harness.services.exports.create(caller, job.id, {"format": "mov"})
    assert (export.kind, export.parent_id, export.task) == (
        Kind.EXPORT,
        job.id,
        {"revision": 1, "matte": f"mattes/{job.id}/1/m.mkv", "source": "uploads/source.mp4"},
    )
    assert harness.services.exports.create(caller, job.id, {"format": "mov"}).id == export.id
    assert harness.services.exports.create(caller, job.id, {"format": "mov", "quality": "web"}).id != export.id
    finish(harness, export, tmp_path)
    current = harness.services.jobs.get(caller, job.id)
    assert [made.id for made in current.exports] == [export.id]
    assert harness.services.exports.get(caller, job.id, export.id).files_expire_at == job.files_expire_at
    assert harness.services.jobs.list(caller, limit=9, offset=0, status=None).total == 1


def test_a_job_without_a_matte_is_not_exported(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    def refused(job_id: str, by: Principal = caller) -> str:
        with pytest.raises((errors.NotFound, errors.InvalidState)) as caught:
            harness.services.exports.create(by, job_id, {"format": "mov"})
        return str(caught.value)

    job = submit(harness, caller, keep_matte=False)
    assert not job.keep_matte
    assert "not completed" in refused(job.id)
    assert "was not kept" in refused(finish(harness, job, tmp_path, matte=False).id)
    failed = submit(harness, caller)
    harness.services.jobs.cancel(caller, failed.id)
    assert "failed" in refused(failed.id)
    good = finish(harness, submit(harness, caller), tmp_path)
    stranger = Principal(harness.services.admin.create_key(OPERATOR, client_id="other").key, "req_2")
    assert "not found" in refused(good.id, stranger)
    export = harness.services.exports.create(caller, good.id, {"format": "mov"})
    assert "of its own" in refused(finish(harness, export, tmp_path).id)
    harness.services.jobs.delete(caller, good.id)
    assert "not found" in refused(good.id)
    assert harness.jobs.job(export.id) is None
    assert not any(export.id in blob or good.id in blob for blob in harness.blobs.blobs)


def test_an_export_costs_what_the_operator_asks_for_it(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    harness.services.admin.set_balance(OPERATOR, client_id="acme", balance=100.0)
    job = finish(harness, submit(harness, caller), tmp_path)
    priced = replace(harness.services.exports, prices=parse_prices("original=60,light=45,pro=180,human=45", "1", "6"))
    free = harness.services.exports.create(caller, job.id, {"format": "gif"})
    assert (free.billing_status, free.credits) == (Billing.NOT_BILLED, 0)
    export = priced.create(caller, job.id, {"format": "mov"})
    assert (export.billing_status, export.credits) == (Billing.RESERVED, 300)
    assert (finish(harness, export, tmp_path).billing_status) is Billing.CHARGED
    harness.services.admin.set_balance(OPERATOR, client_id="acme", balance=1.0)
    with pytest.raises(errors.InsufficientCredits):
        priced.create(caller, job.id, {"format": "webp"})
    assert isinstance(priced, ExportService)
    assert len(priced.list(caller, job.id)) == 2


def test_of_two_equal_exports_at_once_one_is_made_and_charged(
    harness: ServiceHarness, caller: Principal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.services.admin.set_balance(OPERATOR, client_id="acme", balance=100.0)
    job = finish(harness, submit(harness, caller), tmp_path)
    priced = replace(harness.services.exports, prices=parse_prices("original=60,light=45,pro=180,human=45", "1", "6"))
    before = harness.services.admin.account("acme").reserved
    first = priced.create(caller, job.id, {"format": "mov"})
    with monkeypatch.context() as patch:
        patch.setattr(harness.jobs, "exports", lambda *_: ())  # what the other request read before
        second = priced.create(caller, job.id, {"format": "mov"})
    assert second.id == first.id
    assert len(priced.list(caller, job.id)) == 1
    assert harness.services.admin.account("acme").reserved - before == first.credits


def test_of_two_analyses_at_once_one_is_made(
    harness: ServiceHarness, caller: Principal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finish(harness, submit(harness, caller), tmp_path)
    _, first = harness.services.analyses.quality(caller, job.id)
    with monkeypatch.context() as patch:
        patch.setattr(harness.jobs, "children", lambda *_: ())  # what the other request read before
        _, second = harness.services.analyses.quality(caller, job.id)
    assert second.id == first.id
    assert len(harness.jobs.children(job.id, Kind.ANALYSIS)) == 1


def test_files_that_are_not_kept_stay_until_all_were_downloaded(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    job = finish(harness, submit(harness, caller, outputs=TWO, retention_seconds=0), tmp_path)
    first, second = (output.blob for output in job.outputs)
    harness.services.files.mark_downloaded(first)
    harness.services.files.mark_downloaded(first)
    assert harness.services.jobs.get(caller, job.id).files_expire_at == job.files_expire_at
    harness.services.files.mark_downloaded(second)
    expires = harness.services.jobs.get(caller, job.id).files_expire_at
    assert expires is not None
    assert job.files_expire_at is not None
    assert expires < job.files_expire_at


def test_the_matte_counts_as_stored(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    finish(harness, submit(harness, caller, outputs=TWO), tmp_path)
    stored = harness.services.usage.summary(caller, days=1).stored
    assert stored.outputs == 12


def test_a_test_job_is_exported_as_a_test(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    job = finish(harness, submit(harness, caller, test="success"), tmp_path, matte=False)
    export = harness.services.exports.create(caller, job.id, {"format": "mov"})
    assert export.test == {"outcome": "success", "seconds": 1.0}
    assert export.status is Status.PENDING


def test_an_export_holds_no_upload_of_another_key(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    other = Principal(harness.services.admin.create_key(OPERATOR, client_id="other").key, "req_2")
    session = harness.services.uploads.begin(other, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    uploaded = session.finish()
    link = harness.services.files.signer.upload_link(uploaded).url
    job = finish(harness, harness.services.jobs.create(caller, {"video_url": link}), tmp_path)
    assert harness.services.exports.create(caller, job.id, {"format": "mov"}).status is Status.PENDING
    harness.services.uploads.delete(other, uploaded.id)
    assert harness.uploads.upload(uploaded.id) is None


def test_a_page_asks_once_for_a_file_that_cannot_be_made(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    job = finish(harness, submit(harness, caller), tmp_path)
    asked = harness.services.embeds.embed(caller, job.id).missing
    for file in asked:
        assert file.export is not None
        harness.jobs.fail(file.export.id, attempt=None, error="It broke.", error_code="internal_error", actor="w")
    again = harness.services.embeds.embed(caller, job.id).missing
    assert [file.format for file in again] == [file.format for file in asked]
    assert {(file.export, file.reason) for file in again} == {
        (None, "It broke. Request it again with POST /v1/jobs/{id}/exports.")
    }
    assert len(harness.jobs.exports(job.id)) == len(asked)
    retried = harness.services.exports.create(caller, job.id, {"format": "poster"})
    assert [file.export and file.export.id for file in harness.services.embeds.embed(caller, job.id).missing][-1] == (
        retried.id
    )


def test_nothing_is_made_of_files_that_are_due_to_be_removed(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    job = finish(harness, submit(harness, caller, retention_seconds=60), tmp_path)
    harness.clock.advance(seconds=60)  # the next sweep removes them
    with pytest.raises(errors.NotFound):
        harness.services.exports.create(caller, job.id, {"format": "mov"})
    with pytest.raises(errors.NotFound):
        harness.services.corrections.create(caller, job.id, {"time": 0, "points": [{"x": 1, "y": 1}]})
    assert {file.export for file in harness.services.embeds.embed(caller, job.id).missing} == {None}


def test_an_export_is_no_page_of_its_own(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    job = finish(harness, submit(harness, caller), tmp_path)
    export = finish(harness, harness.services.exports.create(caller, job.id, {"format": "mov"}), tmp_path)
    with pytest.raises(errors.InvalidState, match="Use the job"):
        harness.services.embeds.embed(caller, export.id)


def test_the_exports_of_a_job_are_limited(
    harness: ServiceHarness, caller: Principal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alphareel.service.exports.service.MAX_EXPORTS", 2)
    job = finish(harness, submit(harness, caller), tmp_path)
    made = [harness.services.exports.create(caller, job.id, {"format": name}) for name in ("mov", "gif")]
    with pytest.raises(errors.InvalidState, match="2 exports"):
        harness.services.exports.create(caller, job.id, {"format": "webp"})
    assert harness.services.exports.create(caller, job.id, {"format": "gif"}).id == made[1].id
    harness.services.jobs.delete(caller, made[0].id)
    assert harness.services.exports.create(caller, job.id, {"format": "webp"}).status is Status.PENDING


def test_an_export_of_some_subjects_is_made_of_the_first_matte(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    services = harness.services
    job = finish(harness, submit(harness, caller), tmp_path)
    click = {"frame": 3, "points": [{"x": 5, "y": 5, "label": "keep"}]}
    correction = services.corrections.create(caller, job.id, click)
    finish(harness, correction, tmp_path)
    revised = services.jobs.get(caller, job.id)
    assert revised.matte is not None
    assert (revised.revision, revised.matte == job.matte) == (2, False)
    layer = services.exports.create(caller, job.id, {"format": "webm", "keep": ["s1"]})
    assert job.matte is not None
    task = layer.task or {}
    assert (task["revision"], task["matte"]) == (2, job.matte.blob)
    assert [sorted(each) for each in task["corrections"]] == [["frame", "number", "points"], ["keep"]]
    whole = services.exports.create(caller, job.id, {"format": "webm"})
    assert (whole.task or {}) == {"revision": 2, "matte": revised.matte.blob, "source": job.matte.source}
    assert services.exports.create(caller, job.id, {"format": "webm", "keep": ["s1"]}).id == layer.id
    with pytest.raises(errors.InvalidRequest, match="keep"):
        services.exports.create(caller, job.id, {"format": "webm", "keep": ["s1"], "drop": ["s2"]})
    with pytest.raises(errors.InvalidRequest, match="IDs of subjects"):
        services.exports.create(caller, job.id, {"format": "webm", "keep": ["no/id"]})


def test_a_layer_is_exported_for_each_subject(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    services = harness.services
    job = finish(harness, submit(harness, caller), tmp_path)
    analysis, layers = services.layers.layers(caller, job.id, output_format="mov")
    assert (analysis.status, layers) == (Status.PENDING, ())
    finish(harness, analysis, tmp_path, report={"subjects": [{"id": "s1"}, {"id": "s2"}]})
    analysis, layers = services.layers.layers(caller, job.id, output_format="mov")
    assert [(layer.subject, layer.export.options.keep, layer.export.options.output_format) for layer in layers] == [
        ("s1", ("s1",), "mov"),
        ("s2", ("s2",), "mov"),
    ]
    again = services.layers.layers(caller, job.id, output_format="mov")[1]
    assert [layer.export.id for layer in again] == [layer.export.id for layer in layers]
    finish(harness, layers[0].export, tmp_path)
    embed = services.embeds.embed(caller, job.id)
    assert [output.blob for output in embed.files.values()] == [job.output and job.output.blob]
    with pytest.raises(errors.InvalidRequest, match="format"):
        services.layers.layers(caller, job.id, output_format="txt")


def test_a_job_with_layers_makes_them_by_itself(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    services = harness.services
    green = {"output_format": "mp4", "background": "#00ff00", "layers": True}
    job = finish(harness, submit(harness, caller, **green), tmp_path)
    assert job.layers
    for _ in range(2):  # the second time as after a crash
        services.layers.follow(job)
    (analysis,) = harness.jobs.children(job.id, Kind.ANALYSIS)
    services.layers.follow(analysis)  # not completed yet
    assert not services.exports.list(caller, job.id)
    analysis = finish(harness, analysis, tmp_path, report={"subjects": [{"id": "s1"}, {"id": "s2"}]})
    for _ in range(2):
        services.layers.follow(analysis)
    exports = sorted(services.exports.list(caller, job.id), key=lambda export: export.options.keep)
    assert [(export.options.keep, export.options.output_format, export.key_id) for export in exports] == [
        (("s1",), "mp4", caller.key_id),
        (("s2",), "mp4", caller.key_id),
    ]
    assert exports[0].options.background == job.options.background
    assert [layer.export.id for layer in services.layers.layers(caller, job.id)[1]] == [e.id for e in exports]
    services.layers.follow(finish(harness, exports[0], tmp_path))  # an export needs nothing next
    assert len(services.exports.list(caller, job.id)) == 2


def test_layers_that_cannot_be_requested_wait_for_a_client(
    harness: ServiceHarness, caller: Principal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finish(harness, submit(harness, caller, layers=True), tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise errors.StorageFull("No room.")

    with monkeypatch.context() as patch:
        patch.setattr(type(harness.jobs), "add_job", refuse)
        harness.services.layers.follow(job)
    assert not harness.jobs.children(job.id)
    harness.services.layers.layers(caller, job.id)
    assert harness.jobs.children(job.id, Kind.ANALYSIS)


def test_layers_need_the_matte_and_free_exports(harness: ServiceHarness, caller: Principal) -> None:
    with pytest.raises(errors.InvalidRequest, match="layers: needs the matte"):
        submit(harness, caller, layers=True, keep_matte=False)
    with pytest.raises(errors.InvalidRequest, match="layers: must be true or false"):
        submit(harness, caller, layers="yes")
    draft = submit(harness, caller, layers=True, auto_start=False)
    assert harness.services.jobs.start(caller, draft.id, {}).layers
    other = submit(harness, caller, layers=True, auto_start=False)
    assert not harness.services.jobs.start(caller, other.id, {"layers": False}).layers

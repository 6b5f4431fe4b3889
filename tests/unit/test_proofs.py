"""A proof asks every engine, says what each takes, and costs nothing."""

from pathlib import Path

import cv2
import pytest

import alphareel
from alphareel.domain import errors
from alphareel.service.api_keys.admin import Operator
from alphareel.service.jobs.models import Billing, Kind
from alphareel.service.principal import Principal
from alphareel.testing.clips import make_clip
from alphareel.testing.fakes import ServiceHarness

OPERATOR = Operator("tests", "req_0")
URL = "https://example.com/a.mp4"


def test_a_proof_asks_every_engine_that_is_here(harness: ServiceHarness, caller: Principal) -> None:
    harness.services.admin.set_balance(OPERATOR, client_id="acme", balance=0)
    proof = harness.services.proofs.create(caller, {"video_url": URL})
    assert (proof.kind, proof.billing_status) == (Kind.PROOF, Billing.NOT_BILLED)
    assert proof.task is not None
    assert {"builtin", "chroma", "plate"} <= set(proof.task["engines"])
    assert harness.services.proofs.get(caller, proof.id).id == proof.id
    job = harness.services.jobs.create(caller, {"video_url": URL, "test": "success"})
    with pytest.raises(errors.NotFound, match="Proof not found"):
        harness.services.proofs.get(caller, job.id)
    for engines, field in ((["nobody"], "engines.0"), ([], "engines"), ("builtin", "engines"), ([7], "engines.0")):
        with pytest.raises(errors.InvalidRequest) as caught:
            harness.services.proofs.create(caller, {"video_url": URL, "engines": engines})
        assert [detail.field for detail in caught.value.details] == [field]


def test_a_test_key_gets_no_proof(harness: ServiceHarness) -> None:
    caller = Principal(harness.services.admin.create_key(OPERATOR, client_id="acme", test=True).key, "req_1")
    with pytest.raises(errors.InvalidRequest, match="test keys"):
        harness.services.proofs.create(caller, {"video_url": URL})


def test_a_proof_shows_what_works_and_says_what_does_not(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=24).path
    picture = tmp_path / "proof.png"
    made = alphareel.prove(clip, picture, engines=["builtin", "chroma"])
    builtin, chroma = made.engines
    assert builtin.error is None
    assert builtin.seconds_per_frame
    assert chroma.seconds_per_frame is None
    assert chroma.error
    assert len(made.moments) == 6
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape == (made.height, made.width, 3)
    with pytest.raises(errors.TargetExists):
        alphareel.prove(clip, picture)

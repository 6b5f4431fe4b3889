"""Runners over HTTP: who gets in, what a lease shows, files in and out, and what operators do."""

import hashlib

import pytest

from alphareel import __version__
from alphareel.db.runners import RunnerStore
from alphareel.service.runners.models import RunnerTask

ADMIN = "a token for operators"
BODY = {"version": __version__, "slots": 1, "engines": ["builtin"]}
RESULT = {
    "path": "result.webm",
    "format": "webm",
    "mime": "video/webm",
    "bytes": 3,
    "sha256": "0" * 64,
    "frames": 1,
    "seconds": 0.1,
    "width": 2,
    "height": 2,
    "has_alpha": True,
    "has_audio": False,
    "engine": {"name": "builtin", "version": "1"},
    "warnings": [],
}


@pytest.fixture
def operator(make_client):
    client = make_client(secret=None, access={"admin_token": ADMIN}, rate_limits={"auth_failures": 3})
    client.headers["X-Admin-Token"] = ADMIN
    return client


@pytest.fixture
def created(operator):
    return operator.post("/v1/admin/runners", json={"name": "gpu box"}).json()


@pytest.fixture
def runner(make_client, created):
    client = make_client(secret=None)
    client.headers["X-Runner-Token"] = created["token"]
    return client


@pytest.fixture
def waiting(harness):
    """A task that a worker process waits for."""
    store = RunnerStore(harness.database, clock=harness.clock)
    harness.executors.add_executor("worker of runners", home="")
    harness.blobs.blobs["uploads/x.mp4"] = bytes(range(200))
    task = RunnerTask(
        id="task_1",
        executor_id="worker of runners",
        job_id="job_1",
        attempt=1,
        engine="builtin",
        version=__version__,
        created_at=harness.clock.now(),
        request={"type": "run", "previews": "previews"},
        inputs={"input-0.mp4": "uploads/x.mp4"},
        outputs=("result.webm",),
    )
    store.add_task(task)
    yield store
    store.remove_task("task_1")
    harness.executors.remove_executor("worker of runners")


def leased(runner):
    return runner.post("/v1/runners/lease", json=BODY).json()["task"]


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_operators_create_list_and_revoke(operator, created, runner):
    assert created["token"].startswith(f"ar_runner_{created['id']}_")
    listed = {item["id"]: item for item in operator.get("/v1/admin/runners").json()["items"]}
    assert "token" not in listed[created["id"]]
    assert runner.post("/v1/runners/lease", json=BODY).json() == {"success": True, "task": None}
    seen = {item["id"]: item for item in operator.get("/v1/admin/runners").json()["items"]}[created["id"]]
    assert (seen["slots"], seen["engines"], seen["version"]) == (1, ["builtin"], __version__)
    assert seen["last_seen_at"]
    revoked = operator.post(f"/v1/admin/runners/{created['id']}/revoke")
    assert revoked.json()["revoked_at"]
    assert code(runner.post("/v1/runners/lease", json=BODY)) == (401, "invalid_runner_token")
    assert code(operator.post("/v1/admin/runners/nobody/revoke")) == (404, "not_found")
    actions = [item["action"] for item in operator.get("/v1/admin/events").json()["items"]]
    assert actions[:2] == ["runners.revoke", "runners.create"]


def test_operators_see_what_each_runner_does(operator, created, runner, waiting, harness):
    def shown():
        listed = {item["id"]: item for item in operator.get("/v1/admin/runners").json()["items"]}[created["id"]]
        return listed["state"], listed["tasks"]

    assert (created["state"], created["tasks"]) == ("new", [])
    assert shown() == ("new", [])
    lease = {"lease": leased(runner)["lease"]}
    assert shown() == ("working", [{"job_id": "job_1", "engine": "builtin", "progress": 0.0}])
    runner.post("/v1/runners/tasks/task_1/progress", json={**lease, "share": 0.4567})
    assert shown()[1][0]["progress"] == 45.7
    runner.post("/v1/runners/tasks/task_1/release", json=lease)
    assert shown() == ("idle", [])
    runner.post("/v1/runners/lease", json={**BODY, "slots": 0})
    assert shown() == ("away", [])
    operator.post(f"/v1/admin/runners/{created['id']}/revoke")
    assert shown() == ("revoked", [])
    for is_done in (True, True, False):
        waiting.count_task(created["id"], is_done=is_done)
    counted = {item["id"]: item for item in operator.get("/v1/admin/runners").json()["items"]}[created["id"]]
    assert (counted["tasks_done"], counted["tasks_failed"]) == (2, 1)


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 201, 7, None])
def test_a_bad_name_is_refused(operator, name):
    assert code(operator.post("/v1/admin/runners", json={"name": name})) == (400, "invalid_request")


def test_nobody_else_gets_in(client, anonymous_client, operator, created):
    for stranger in (client, anonymous_client, operator):
        answer = stranger.post("/v1/runners/lease", json=BODY)
        assert code(answer) == (401, "missing_runner_token")
        assert answer.headers["WWW-Authenticate"] == "RunnerToken"
    token = {"X-Runner-Token": created["token"]}
    assert code(anonymous_client.get("/v1/jobs", headers=token)) == (401, "missing_api_key")
    assert code(anonymous_client.get("/v1/admin/runners", headers=token)) == (401, "missing_admin_token")


def test_wrong_tokens_are_slowed_down(operator):
    wrong = {"X-Runner-Token": "ar_runner_nobody"}
    codes = [operator.post("/v1/runners/lease", json=BODY, headers=wrong).status_code for _ in range(5)]
    assert codes == [401, 401, 401, 429, 429]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": "0.0.0"}, (409, "invalid_state")),
        ({"slots": -1}, (400, "invalid_request")),
        ({"slots": 65}, (400, "invalid_request")),
        ({"engines": "builtin"}, (400, "invalid_request")),
        ({"engines": ["x" * 65]}, (400, "invalid_request")),
    ],
)
def test_a_bad_request_for_a_lease_is_refused(runner, change, expected):
    assert code(runner.post("/v1/runners/lease", json={**BODY, **change})) == expected


def test_a_task_goes_out_and_its_files_come_back(runner, waiting, harness):
    task = leased(runner)
    assert (task["id"], task["inputs"], task["outputs"]) == (
        "task_1",
        [{"name": "input-0.mp4", "bytes": 200}],
        ["result.webm"],
    )
    assert "uploads/" not in str(task), "no key of the store"
    assert leased(runner) is None
    where, lease = "/v1/runners/tasks/task_1", {"lease": task["lease"]}
    whole = runner.get(f"{where}/files/input-0.mp4", params=lease)
    assert (whole.status_code, whole.content) == (200, bytes(range(200)))
    rest = runner.get(f"{where}/files/input-0.mp4", params=lease, headers={"Range": "bytes=150-"})
    assert (rest.status_code, rest.content) == (206, bytes(range(150, 200)))
    assert runner.get(f"{where}/files/input-0.mp4", params=lease, headers={"Range": "bytes=200-"}).status_code == 416
    told = runner.post(f"{where}/progress", json={**lease, "share": 0.5, "done": 3, "total": 6, "fps": 2.5})
    assert told.json() == {"success": True, "cancel": False}
    sent = runner.put(f"{where}/files/result.webm", params=lease, content=b"abc")
    assert sent.json()["sha256"] == hashlib.sha256(b"abc").hexdigest()
    event = {"event": "result", "results": [RESULT], "stages": {}}
    assert runner.post(f"{where}/complete", json={**lease, "event": event}).status_code == 200
    ended = waiting.task("task_1")
    assert (ended.progress["share"], ended.outcome) == (0.5, event)
    assert harness.blobs.blobs[ended.files["result.webm"].blob] == b"abc"
    assert runner.post(f"{where}/progress", json=lease).json()["cancel"] is True
    assert code(runner.post(f"{where}/complete", json={**lease, "event": event})) == (404, "not_found")


def test_nothing_can_be_done_without_the_lease(runner, waiting, operator, make_client):
    task = leased(runner)
    stranger = make_client(secret=None)
    stranger.headers["X-Runner-Token"] = operator.post("/v1/admin/runners", json={"name": "other"}).json()["token"]
    where = "/v1/runners/tasks/task_1"
    for client, lease in ((stranger, task["lease"]), (runner, "made up")):
        held = {"lease": lease}
        assert client.post(f"{where}/progress", json=held).json()["cancel"] is True
        event = {"event": "error", "code": "invalid_video", "message": "", "hint": ""}
        for answer in (
            client.get(f"{where}/files/input-0.mp4", params=held),
            client.put(f"{where}/files/result.webm", params=held, content=b"abc"),
            client.put(f"{where}/preview", params=held, content=b"abc"),
            client.post(f"{where}/complete", json={**held, "event": event}),
            client.post(f"{where}/release", json=held),
        ):
            assert code(answer) == (404, "not_found")
    assert waiting.task("task_1").files == {}


def test_what_is_no_event_or_no_file_of_the_task_is_refused(runner, waiting):
    lease = {"lease": leased(runner)["lease"]}
    where = "/v1/runners/tasks/task_1"
    for event in ({}, {"event": "plan"}, {"event": "result"}, {"event": "ready"}, {"event": "result", "results": 3}):
        assert code(runner.post(f"{where}/complete", json={**lease, "event": event})) == (400, "invalid_request")
    for share in (-0.1, 1.1, "x"):
        assert code(runner.post(f"{where}/progress", json={**lease, "share": share})) == (400, "invalid_request")
    for name in ("other.webm", "..%2Fresult.webm", "input-0.mp4"):
        answer = runner.put(f"{where}/files/{name}", params=lease, content=b"abc")
        assert code(answer) == (404, "not_found")
    assert code(runner.get(f"{where}/files/result.webm", params=lease)) == (404, "not_found")
    assert code(runner.put(f"{where}/files/result.webm", params=lease, content=b"")) == (400, "invalid_request")
    for preview in (b"", b"<svg/>", bytes(200_000)):
        assert code(runner.put(f"{where}/preview", params=lease, content=preview)) == (400, "invalid_request")


def test_a_task_that_was_given_back_is_leased_again(runner, waiting):
    lease = leased(runner)["lease"]
    assert runner.post("/v1/runners/tasks/task_1/release", json={"lease": lease}).status_code == 200
    again = leased(runner)
    assert again["lease"] != lease


def test_a_task_whose_input_is_gone_is_not_given_out(runner, waiting, harness):
    del harness.blobs.blobs["uploads/x.mp4"]
    assert leased(runner) is None
    assert waiting.task("task_1") is None


def test_a_lease_may_wait_for_a_task(runner):
    answer = runner.post("/v1/runners/lease", json=BODY, headers={"Prefer": "wait=1"})
    assert answer.json()["task"] is None

"""The n8n workflows in examples/n8n, walked node by node against the real application."""

import json
import re
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).resolve().parents[2] / "examples" / "n8n"


def load(name):
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text())
    return {node["name"]: node for node in workflow["nodes"]}, workflow["connections"]


def followers(connections, name, output=0):
    branches = connections.get(name, {"main": []})["main"]
    return [link["node"] for link in branches[output]] if output < len(branches) else []


class Walk:
    """What n8n does with these few kinds of nodes: values of expressions, requests, branches."""

    def __init__(self, client, nodes):
        self.client, self.nodes, self.values = client, nodes, {}

    def fill(self, text, item):
        """An expression with its ``{{ ... }}`` replaced; they name fields of the item or of a former node."""

        def value(match):
            inner = match.group(1).strip()
            if built := re.fullmatch(r"JSON\.stringify\(\{(.*)\}\)", inner):
                fields = (part.split(": $json.") for part in built.group(1).split(","))
                return json.dumps({name.strip(): item[field.strip()] for name, field in fields})
            source, path = re.fullmatch(r"(?:\$\('([^']+)'\)\.item\.json|\$json)\.([\w.]+)", inner).groups()
            found = self.values[source] if source else item
            for step in path.split("."):
                found = found[step]
            return str(found)

        assert text.startswith("="), "an expression begins with ="
        return re.sub(r"\{\{(.*?)\}\}", value, text[1:])

    def run(self, name, item):
        parameters = self.nodes[name]["parameters"]
        kind = self.nodes[name]["type"].rpartition(".")[2]
        if kind == "set":
            item = {entry["name"]: entry["value"] for entry in parameters["assignments"]["assignments"]}
        if kind == "httpRequest":
            url = self.fill(parameters["url"], item)
            body = self.fill(parameters["jsonBody"], item) if parameters.get("sendBody") else None
            response = self.client.request(parameters["method"], url, content=body)
            assert response.status_code == 200, response.text
            item = response.json() if "json" in response.headers["content-type"] else {"file": response.content}
        self.values[name] = item
        return item

    def branch(self, name, item):
        (condition,) = self.nodes[name]["parameters"]["conditions"]["conditions"]
        return 0 if self.fill(condition["leftValue"], item) == condition["rightValue"] else 1


@pytest.fixture
def walk(client):
    nodes, connections = load("remove-background")
    settings = {e["name"]: e for e in nodes["Settings"]["parameters"]["assignments"]["assignments"]}
    settings["base_url"]["value"] = "http://testserver"
    return Walk(client, nodes), connections


def to_status(walk, connections):
    item = {}
    for name in ("Start", "Settings", "Create job", "Wait", "Get job"):
        item = walk.run(name, item)
        (following,) = followers(connections, name)
    assert following == "Completed"
    return item


def test_the_workflow_ends_with_the_file(walk, finish_job):
    walk, connections = walk
    item = to_status(walk, connections)
    assert walk.branch("Completed", item) == 1
    assert followers(connections, "Completed", 1) == ["Failed"]
    assert followers(connections, "Failed", walk.branch("Failed", item)) == ["Wait"], "it polls on"
    finish_job(item["id"])
    item = walk.run("Get job", item)
    (download,) = followers(connections, "Completed", walk.branch("Completed", item))
    assert len(walk.run(download, item)["file"]) > 1000


def test_the_workflow_stops_with_the_error_of_a_failed_job(walk, client):
    walk, connections = walk
    item = to_status(walk, connections)
    client.post(f"/v1/jobs/{item['id']}/cancel")
    item = walk.run("Get job", item)
    assert followers(connections, "Failed", walk.branch("Failed", item)) == ["Stop"]
    assert walk.fill(walk.nodes["Stop"]["parameters"]["errorMessage"], item) == "Cancelled"


def test_the_receiver_downloads_what_a_webhook_names(client, finish_job):
    nodes, connections = load("receive-webhook")
    walk = Walk(client, nodes)
    job = client.post("/v1/jobs", json={"video_url": "https://a.example/v.mp4"}).json()["id"]
    finish_job(job)
    item = {"body": {"event": "job.completed", "data": client.get(f"/v1/jobs/{job}").json()}}
    assert followers(connections, "Webhook") == ["Completed"]
    (download,) = followers(connections, "Completed", walk.branch("Completed", item))
    assert len(walk.run(download, item)["file"]) > 1000


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_every_connection_leads_to_a_node(path):
    nodes, connections = load(path.stem)
    assert connections.keys() <= nodes.keys()
    assert {
        link["node"] for branches in connections.values() for branch in branches["main"] for link in branch
    } <= nodes.keys()


def test_a_poll_that_fails_is_repeated_and_a_job_is_not_created_again():
    nodes, _ = load("remove-background")
    assert nodes["Get job"]["retryOnFail"]
    assert "retryOnFail" not in nodes["Create job"]

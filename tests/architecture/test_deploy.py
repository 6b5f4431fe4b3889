"""deploy/: every variable is a setting, proxies let through what the service accepts, containers have few rights.

Linters run where they are installed: hadolint, caddy, nginx, promtool, helm (Python package helm-python-sdk).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from alphareel.service.jobs.models import QUEUES
from alphareel.service.settings import LimitSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = set(re.findall(r"`(ALPHAREEL_[A-Z_]+)`", (ROOT / "docs/settings.md").read_text()))
OF_COMPOSE = {"ALPHAREEL_IMAGE", "ALPHAREEL_TARGET"}
MAX_UPLOAD = LimitSettings().max_upload_bytes
STOP_SECONDS = WorkerSettings().stop_seconds
PATH = os.pathsep.join([os.environ.get("ALPHAREEL_TEST_SERVERS", ""), os.environ.get("PATH", ""), "/usr/sbin"])


def compose(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def tool(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def accepts(command: list[Any], **environment: str) -> None:
    done = subprocess.run(
        command, env=os.environ | environment, cwd=DEPLOY, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_of_ours_is_a_setting() -> None:
    for path in (p for p in DEPLOY.rglob("*") if p.is_file()):
        named = set(re.findall(r"\bALPHAREEL_[A-Z_]+", path.read_text()))
        assert named <= SETTINGS | OF_COMPOSE, path.name


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cluster.yaml"])
def test_our_containers_have_no_rights_and_a_read_only_root(name: str) -> None:
    ours = {n: s for n, s in compose(name)["services"].items() if "ALPHAREEL_IMAGE" in s["image"]}
    assert ours
    for service in ours.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert "no-new-privileges:true" in service["security_opt"]
        assert any(volume.endswith(":/data") for volume in service["volumes"])
        assert int(service["stop_grace_period"].rstrip("s")) > STOP_SECONDS + 10


def test_each_process_of_the_cluster_has_a_data_folder_of_its_own() -> None:
    folders = [
        v for s in compose("compose.cluster.yaml")["services"].values() for v in s.get("volumes", ()) if ":/data" in v
    ]
    assert len(folders) == len(set(folders))


def test_workers_of_the_cluster_serve_every_queue_and_check_their_own_health() -> None:
    workers = {n: s for n, s in compose("compose.cluster.yaml")["services"].items() if n.startswith("worker")}
    for service in workers.values():
        assert "--worker" in service["healthcheck"]["test"]
    taken = {queue for s in workers.values() for queue in s["command"][s["command"].index("--queues") + 1].split(",")}
    assert taken == set(QUEUES)


def test_no_secret_has_a_value_in_a_compose_file() -> None:
    for path in DEPLOY.glob("compose*.yaml"):
        for line in path.read_text().splitlines():
            if re.match(r"\s*\w*(PASSWORD|SECRET|TOKEN|ACCESS_KEY)\w*:", line):
                assert re.search(r": (\$\{\w+(:\?|:-)\}|postgresql://.*\$\{)", line), line


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cluster.yaml"])
def test_our_containers_get_the_address_of_the_collector(name: str) -> None:
    """A file for --env-file fills in compose files; containers see only what these pass on."""
    ours = [s for s in compose(name)["services"].values() if "ALPHAREEL_IMAGE" in s["image"]]
    assert ours
    for service in ours:
        assert service["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"


def test_kubernetes_adds_no_variables_that_look_like_settings() -> None:
    assert "\nenableServiceLinks: false\n" in (DEPLOY / "helm/alphareel/templates/_helpers.tpl").read_text()


def test_proxies_accept_a_little_more_than_the_service() -> None:
    """Else clients get the proxy's page instead of the error file_too_large."""
    (caddy,) = re.findall(r"max_size (\d+)MB", (DEPLOY / "Caddyfile").read_text())
    (nginx,) = re.findall(r"client_max_body_size (\d+)m;", (DEPLOY / "nginx.conf").read_text())
    assert MAX_UPLOAD * 1.02 < int(caddy) * 1000**2 < MAX_UPLOAD * 1.5
    assert MAX_UPLOAD * 1.02 < int(nginx) * 1024**2 < MAX_UPLOAD * 1.5


def test_nginx_passes_bodies_and_events_on_and_retries_no_post() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    assert "proxy_buffering off;" in text
    assert "proxy_request_buffering off;" in text
    assert "non_idempotent;" not in text


def test_the_unit_waits_longer_than_the_service_needs_to_stop() -> None:
    unit = (DEPLOY / "alphareel.service").read_text()
    (seconds,) = re.findall(r"TimeoutStopSec=(\d+)", unit)
    assert int(seconds) > STOP_SECONDS + 10
    for line in (
        "NoNewPrivileges=true",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "User=alphareel",
        "RestartPreventExitStatus=2",
    ):
        assert line in unit.splitlines()


def test_every_yaml_file_is_valid_yaml() -> None:
    """A colon in an unquoted text made an alert rule invalid once."""
    for path in [p for p in DEPLOY.rglob("*.y*ml") if "templates" not in p.parts]:
        assert yaml.safe_load(path.read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    assert all(set(rule["annotations"]) == {"summary"} for rule in rules)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    accepts([tool("hadolint"), "Dockerfile"])


def test_caddy_accepts_its_file(tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path), "SITE": ":8090", "UPSTREAMS": "127.0.0.1:1 127.0.0.1:2"}
    accepts([tool("caddy"), "validate", "--adapter", "caddyfile", "--config", "Caddyfile"], **places)


def test_nginx_accepts_its_file(tmp_path: Path) -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x"]
    accepts([*certificate, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "chain.pem"])
    for name, file in (("fullchain.pem", "chain.pem"), ("privkey.pem", "key.pem")):
        text = re.sub(rf"/etc/letsencrypt/\S*{name}", str(tmp_path / file), text)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off;\n{temporary}{text} }}\n"
    (tmp_path / "nginx.conf").write_text(main)
    accepts([tool("nginx"), "-t", "-q", "-e", tmp_path / "log", "-p", tmp_path, "-c", tmp_path / "nginx.conf"])


def test_nginx_accepts_the_cache_of_the_guide(tmp_path: Path) -> None:
    """docs/deploy.md, without the certificate that it does not show."""
    page = (ROOT / "docs/deploy.md").read_text()
    [block] = re.findall(r"^```nginx\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert block.count("{") == block.count("}")
    block = block.replace("listen 443 ssl;", "listen 127.0.0.1:8091;").replace(
        "/var/cache/nginx/reel", f"{tmp_path}/reel"
    )
    block = block.replace("https://video.example.com", "https://127.0.0.1:1")
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off;\n{temporary}{block} }}\n"
    (tmp_path / "nginx.conf").write_text(main)
    accepts([tool("nginx"), "-t", "-q", "-e", tmp_path / "log", "-p", tmp_path, "-c", tmp_path / "nginx.conf"])


def test_the_chart_renders_with_the_values_of_the_guide() -> None:
    helm = pytest.importorskip("helm_python")
    (line,) = re.findall(r"^helm install alphareel (.*)$", (ROOT / "docs/deploy.md").read_text(), flags=re.MULTILINE)
    chart, flag, value = line.split()
    name, _, text = value.partition("=")
    assert (chart, flag) == ("deploy/helm/alphareel", "--set")
    with helm.Chart.load(str(ROOT / chart)) as loaded:
        rendered = loaded.render(values={name: text}, name="alphareel")
    assert any(text in document for document in rendered.values())


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool = tool("promtool")
    accepts([promtool, "check", "config", "--syntax-only", "prometheus/prometheus.yml"])
    accepts([promtool, "check", "rules", "prometheus/alerts.yml"])


@pytest.mark.parametrize("keda", [True, False])
def test_the_chart_renders_pods_without_rights(*, keda: bool) -> None:
    helm = pytest.importorskip("helm_python")
    values = {
        "publicUrl": "https://cut.example.com",
        "keda": {"enabled": keda},
        "ingress": {"enabled": True, "host": "a.b"},
    }
    chart = str(DEPLOY / "helm/alphareel")
    assert helm.lint(chart, values=values)["errors"] == []
    with helm.Chart.load(chart) as loaded:
        rendered = loaded.render(values=values, name="reel")
    found = [d for name, text in rendered.items() if name.endswith(".yaml") for d in yaml.safe_load_all(text) if d]
    deployments = [d for d in found if d["kind"] == "Deployment"]
    assert {d["metadata"]["name"] for d in deployments} == {"reel-api", "reel-worker-cpu", "reel-worker-fetch"}
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {e["name"] for e in container["env"] if e["name"].startswith("ALPHAREEL")} <= SETTINGS
    scaled = [d["spec"]["scaleTargetRef"]["name"] for d in found if d["kind"] == "ScaledObject"]
    assert scaled == (["reel-worker-cpu", "reel-worker-fetch"] if keda else [])

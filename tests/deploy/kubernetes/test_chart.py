"""The chart: helm renders it, servers of three versions accept it, and values that cannot work are refused with the reason."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm import generate
from tests.deploy.kubernetes import restricted
from tests.deploy.kubernetes.tools import CHART, ROOT, VALUES, helm, objects, refusals, rendered, template

MINIMAL = ROOT / "tests/deploy/values/minimal.yaml"
IDS = [path.stem for path in VALUES]


def find(items: tuple[Mapping[str, Any], ...], kind: str) -> Mapping[str, Any]:
    return next(item for item in items if item["kind"] == kind)


@pytest.mark.parametrize("values", VALUES, ids=IDS)
def test_a_value_set_renders_objects_that_servers_of_three_versions_accept(values: Path) -> None:
    items = rendered(values)
    assert refusals(items) == []
    assert [restricted.violations(pod) for pod in restricted.pods(items)] == [[], []]
    assert {item["metadata"]["namespace"] for item in items} == {"integrations"}
    names = [(item["kind"], item["metadata"]["name"]) for item in items]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("values", VALUES, ids=IDS)
def test_a_value_set_has_no_rights_in_the_cluster(values: Path) -> None:
    items = rendered(values)
    assert not {item["kind"] for item in items} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    assert all(pod["automountServiceAccountToken"] is False for pod in restricted.pods(items))
    for item in items:
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is False


@pytest.mark.parametrize("values", VALUES, ids=IDS)
def test_selectors_and_names_of_a_value_set_lead_to_its_objects(values: Path) -> None:
    items = rendered(values)
    deployment, service = find(items, "Deployment"), find(items, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    selectors += [item["spec"]["selector"]["matchLabels"] for item in items if item["kind"] == "PodDisruptionBudget"]
    selectors += [item["spec"]["podSelector"]["matchLabels"] for item in items if item["kind"] == "NetworkPolicy"]
    assert all(selector.items() <= labels.items() for selector in selectors)
    test_pod = next(item for item in items if item["kind"] == "Pod")
    assert not service["spec"]["selector"].items() <= test_pod["metadata"]["labels"].items()
    ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for item in items:
        if item["kind"] == "Ingress":
            paths = [path for rule in item["spec"]["rules"] for path in rule["http"]["paths"]]
            backends = {(path["backend"]["service"]["name"], path["backend"]["service"]["port"]["name"]) for path in paths}
            assert backends == {(service["metadata"]["name"], "http")}
        if item["kind"] == "HTTPRoute":
            backends = {(ref["name"], ref["port"]) for rule in item["spec"]["rules"] for ref in rule["backendRefs"]}
            assert backends == {(service["metadata"]["name"], service["spec"]["ports"][0]["port"])}
        if item["kind"] == "ServiceMonitor":
            assert item["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            assert {end["port"] for end in item["spec"]["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}


def test_helm_lints_the_chart_with_every_value_set() -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(MINIMAL))
    assert done.returncode == 0, done.stdout + done.stderr
    for values in VALUES:
        done = helm("lint", "--strict", "--quiet", str(CHART), "--values", str(values))
        assert done.returncode == 0, f"{values.name}: {done.stdout}{done.stderr}"


def test_rendering_twice_gives_the_same_bytes() -> None:
    values = str(ROOT / "tests/deploy/values/key-rotation.yaml")
    assert template("--values", values) == template("--values", values)


def test_the_validators_refuse_what_a_server_refuses() -> None:
    items = copy.deepcopy(rendered(ROOT / "tests/deploy/values/monitoring.yaml"))
    find(items, "Deployment")["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["pth"] = "/"  # type: ignore[index]
    find(items, "ServiceMonitor")["spec"]["endpoints"][0]["interval"] = "soon"  # type: ignore[index]
    assert len(refusals(items)) == 4
    pod = copy.deepcopy(next(restricted.pods(items)))
    pod["containers"][0]["securityContext"]["capabilities"] = {"add": ["SYS_ADMIN"]}
    pod["securityContext"]["runAsNonRoot"] = False  # type: ignore[index]
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    del pod["securityContext"]["seccompProfile"]  # type: ignore[attr-defined]
    assert len(restricted.violations(pod)) == 5


# -- values that cannot work --------------------------------------------------------------------------------------------

REFUSED: Mapping[str, tuple[str, str]] = {
    "two replicas on SQLite": ("replicas: 2", "only one process can use.*database.type: postgresql"),
    "no master key": ("masterKey: {existingSecret: null}", "no master key.*masterKey.existingSecret: reconciler-master-key"),
    "two master keys": ("masterKey: {value: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}", "exclude each other"),
    "a password as the master key": ("masterKey: {existingSecret: '', value: hunter2}", "openssl rand -base64 32"),
    "the previous key is the key": (
        "masterKey: {previous: {existingSecret: reconciler-master-key}}",
        "same key of the same Secret",
    ),
    "a public URL without TLS": ("config: {server: {publicUrl: http://hooks.acme.example}}", "unencrypted.*Set an https URL"),
    "a public URL that begins like loopback": ("config: {server: {publicUrl: http://localhost.acme.example}}", "unencrypted"),
    "no source": ("config: {source: {url: ''}}", "config.source.url is not set"),
    "a folder as the source": ("config: {source: {url: /srv/manifests}}", "a folder of a pod has no manifests"),
    "a token in the URL": ("config: {source: {url: 'https://x:ghp_1@github.com/a/b.git'}}", "git.token.existingSecret"),
    "ssh without a key": (
        "config: {source: {url: git@github.com:a/b.git}}\ngit: {token: {existingSecret: ''}}",
        "git.knownHosts",
    ),
    "ssh with a token": (
        "config: {source: {url: git@github.com:a/b.git}}\ngit: {sshKey: {existingSecret: k}, knownHosts: {existingConfigMap: h}}",
        "git.token is for https",
    ),
    "an ssh key for https": ("git: {sshKey: {existingSecret: k}}", "not ssh"),
    "an ingress without host": ("ingress: {enabled: true, tls: {secretName: t}}", "needs ingress.host"),
    "an ingress without TLS": ("ingress: {enabled: true, host: hooks.acme.example}", "ingress has no TLS"),
    "an ingress with two kinds of TLS": (
        "ingress: {enabled: true, host: hooks.acme.example, tls: {secretName: t, external: true}}",
        "ingress.tls.secretName and ingress.tls.external exclude",
    ),
    "an ingress for another host": (
        "ingress: {enabled: true, host: hook.acme.example, tls: {external: true}}",
        "Use the same host",
    ),
    "an ingress below a path": (
        "config: {server: {publicUrl: https://hooks.acme.example/x}}\n"
        "ingress: {enabled: true, host: hooks.acme.example, tls: {external: true}}",
        "does not remove",
    ),
    "an ingress without a public URL": (
        "config: {server: {publicUrl: ''}}\ningress: {enabled: true, host: hooks.acme.example, tls: {external: true}}",
        "Set it to https://hooks.acme.example",
    ),
    "ingress and gateway on one host": (
        "ingress: {enabled: true, host: hooks.acme.example, tls: {external: true}}\n"
        "gateway: {enabled: true, host: hooks.acme.example, parentRefs: [{name: g}]}",
        "ingress and gateway both serve",
    ),
    "a gateway without a host": ("gateway: {enabled: true, parentRefs: [{name: g}]}", "needs gateway.host"),
    "a route without a gateway": ("gateway: {enabled: true, host: hooks.acme.example}", "needs gateway.parentRefs"),
    "metrics on the internet": ("publicPaths: {prefixes: [/]}", "publishes metrics"),
    "a login that cannot end": (
        "config: {server: {login: {oidc: {issuer: https://l.example, clientId: c}}}}\n"
        "ingress: {enabled: true, host: hooks.acme.example, tls: {external: true}}",
        "publicPaths.dashboard: true",
    ),
    "a client secret without a login": ("loginClientSecret: {existingSecret: s}", "Set the issuer"),
    "PostgreSQL without a URL": ("database: {type: postgresql}", "database.postgresql.existingSecret"),
    "PostgreSQL without a password": ("database: {type: postgresql, postgresql: {host: h}}", "passwordSecret.existingSecret"),
    "two URLs of PostgreSQL": ("database: {type: postgresql, postgresql: {host: h, existingSecret: s}}", "exclude each other"),
    "PostgreSQL and SQLite": ("database: {postgresql: {existingSecret: s}}", "database.type is sqlite"),
    "a claim for PostgreSQL": (
        "database: {type: postgresql, postgresql: {existingSecret: s}}\npersistence: {existingClaim: c}",
        "existingClaim is for SQLite",
    ),
    "a state that is lost": ("persistence: {enabled: false}", "persistence.ephemeral: true"),
    "a state that is lost and kept": ("persistence: {ephemeral: true}", "contradict each other"),
    "a budget that blocks drains": (
        "replicas: 2\ndatabase: {type: postgresql, postgresql: {existingSecret: s}}\n"
        "podDisruptionBudget: {enabled: true, minAvailable: 2}",
        "no node with a pod could be drained",
    ),
    "a budget for one pod": ("podDisruptionBudget: {enabled: true}", "or disable it"),
    "the tag latest": ("image: {tag: latest}", "image.tag is latest"),
    "a grace period that is too short": ("terminationGracePeriodSeconds: 30", "set 40 or more"),
    "a ServiceMonitor that is locked out": (
        "metrics: {serviceMonitor: {enabled: true}}\nnetworkPolicy: {ingressFrom: [{podSelector: {}}]}",
        "networkPolicy.metricsFrom",
    ),
    "rules that are none": ("metrics: {prometheusRule: {enabled: true, rules: 'x: 1'}}", "it has no groups"),
    "a key of the chart in the configuration": (
        "config: {state: {url: 'sqlite:////data/x.db'}}",
        "config.state.url has no effect",
    ),
    "a nested key of the chart": ("config: {source: {auth: {tokenFile: /x}}}", "use git.token.existingSecret"),
    "a proxy with a password": ("config: {network: {proxy: 'http://u:p@proxy:3128'}}", "RECONCILER_NETWORK_PROXY"),
    "a setting as a variable": (
        "env: [{name: RECONCILER_SERVER_PUBLIC_URL, value: 'http://hooks.acme.example'}]",
        "would escape the checks of config",
    ),
    "a variable of the chart": (
        "env: [{name: RECONCILER_STATE_URL, value: x}]",
        "Set its key in config, or the value of the chart",
    ),
    "a variable twice": ("env: [{name: A, value: b}, {name: A, value: c}]", "env A is set twice"),
    "a selector as a label": ("commonLabels: {app.kubernetes.io/name: x}", "a label of the chart"),
    "a label twice": ("commonLabels: {team: a}\npodLabels: {team: b}", "which commonLabels has too"),
    "a name that no Service can have": ("nameOverride: ''\nfullnameOverride: 1st", "/fullnameOverride"),
    "a tag in the repository": ("image: {repository: 'ghcr.io/acme/reconciler:1'}", "/image/repository"),
    "a scrape that takes too long": (
        "metrics: {serviceMonitor: {enabled: true, interval: 5s, scrapeTimeout: 1m}}",
        "Set it to less than the interval",
    ),
    "one file twice": (
        "secretFiles:\n- {existingSecret: a, items: [{key: x, path: t}]}\n- {existingSecret: b, items: [{key: x, path: t}]}",
        "path .t. twice",
    ),
    "a variable without a value": ("env: [{name: X}]", "env X has no value"),
    "a variable without a key": ("env: [{name: X, existingSecret: s}]", "no key of the Secret s"),
    "a variable with two values": (
        "env: [{name: X, existingSecret: s, key: k, value: v}]",
        "more than one of value, existingSecret",
    ),
    "a secret in the values": ("env: [{name: RECONCILER_SECRET_X, value: ghp_1}]", "Put it into a Secret"),
    "a volume of the chart": ("extraVolumes: [{name: state, emptyDir: {}}]", "a volume of the chart"),
    "a mount of the chart": ("extraVolumeMounts: [{name: tmp, mountPath: /run/reconciler}]", "a mount of the chart"),
    "a folder of the node": ("extraVolumes: [{name: x, hostPath: {path: /}}]", "restricted"),
    "the Git token for manifests": ("secretFiles: [{existingSecret: reconciler-git}]", "manifests could read"),
    "tokens of the default account": (
        "serviceAccount: {create: false}\nprojectedTokens: [{name: v, audience: a}]",
        "every pod of the namespace",
    ),
    "the URL of the database for manifests": (
        "database: {type: postgresql, postgresql: {existingSecret: d}}\nsecretFiles: [{existingSecret: d}]",
        "manifests could read",
    ),
    "a claim that would not be used": (
        "persistence: {enabled: false, ephemeral: true, existingClaim: old}",
        "existingClaim is set.*remove the claim",
    ),
    "a certificate that nothing checks": (
        "database: {type: postgresql, postgresql: {host: h, sslMode: verify-full, passwordSecret: {existingSecret: s}}}",
        "caBundle.existingConfigMap.*PGSSLROOTCERT",
    ),
    "a credential of the collector in a ConfigMap": (
        "config: {telemetry: {enabled: true, headers: [authorization=x]}}",
        "existingSecret: NAME",
    ),
    "a credential of the collector in the values": (
        "env: [{name: RECONCILER_TELEMETRY_HEADERS, value: authorization=x}]",
        "Put it into a Secret",
    ),
    "a mount without a volume": ("extraVolumeMounts: [{name: ca, mountPath: /ca}]", "extraVolumes has no volume of that name"),
    "a container that restricted refuses": ("extraContainers: [{name: proxy, image: p}]", "allowPrivilegeEscalation: false"),
    "a container that keeps capabilities": (
        "extraContainers: [{name: p, image: p, securityContext: {allowPrivilegeEscalation: false, capabilities: null}}]",
        "drop: .ALL",
    ),
    "a second container of the name": ("extraContainers: [{name: reconciler, image: p}]", "the container of the chart"),
    "a container without a name": ("extraContainers: [{image: p}]", "missing property 'name'"),
    "a section that null removes": ("database: null", "missing property 'database'"),
    "a default that null removes": ("service: {port: null}", "missing property 'port'"),
    "no configuration": ("config: null", "missing property 'config'"),
    "a sample ratio that is none": ("config: {telemetry: {sampleRatio: 2}}", "/config/telemetry/sampleRatio"),
    "an unknown value": ("replcas: 2", "additional properties 'replcas' not allowed"),
    "an unknown value below": ("image: {tags: x}", "/image.*'tags' not allowed"),
    "an unknown key of the configuration": ("config: {sorce: {}}", "/config.*'sorce' not allowed"),
    "a wrong type": ("replicas: two", "/replicas.*want integer"),
    "no replica": ("replicas: 0", "/replicas"),
    "a wrong duration": ("config: {reconcile: {interval: soon}}", "/config/reconcile/interval"),
    "a wrong digest": ("image: {digest: 3fa1}", "/image/digest"),
    "an API token in place of its hash": (
        "config: {server: {tokens: [{name: a, sha256: s3cret, role: viewer}]}}",
        "/config/server/tokens/0/sha256",
    ),
}


@pytest.mark.parametrize(("values", "reason"), REFUSED.values(), ids=REFUSED)
def test_values_that_cannot_work_are_refused_with_the_reason_and_what_to_write(values: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(values)
    done = helm("template", "r", str(CHART), "--values", str(MINIMAL), "--values", str(tmp_path / "values.yaml"))
    assert done.returncode != 0
    assert re.search(reason, done.stderr, re.DOTALL), done.stderr
    assert "nil pointer" not in done.stderr
    assert len(re.findall(r"^- ", done.stderr, re.MULTILINE)) == 1, "one cause is one message"


def test_a_release_whose_name_no_service_can_have_is_refused() -> None:
    done = helm("template", "1st", str(CHART), "--values", str(MINIMAL))
    assert "must begin with a letter" in done.stderr


@pytest.mark.parametrize("url", ["https://Hooks.Acme.example", "https://hooks.acme.example:8443/"])
def test_the_host_of_the_public_url_is_compared_without_port_and_case(url: str) -> None:
    ingress = ("--set", "ingress.enabled=true,ingress.host=hooks.acme.example,ingress.tls.external=true")
    template("--values", str(MINIMAL), "--set", f"config.server.publicUrl={url}", *ingress)


def test_names_that_look_like_numbers_stay_texts() -> None:
    names = "masterKey.existingSecret=1e3,git.token.existingSecret=123,persistence.storageClass=0x1,priorityClassName=yes"
    more = ("--set", "ingress.enabled=true,ingress.host=hooks.acme.example,ingress.tls.external=true,fullnameOverride=on")
    items = objects(template("--values", str(MINIMAL), "--set-string", f"{names},nameOverride=12", *more, release="34"))
    assert refusals(items) == []


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("replicas: 2\nimage: {tag: latest}\npersistence: {enabled: false}\n")
    done = helm("template", "r", str(CHART), "--values", str(MINIMAL), "--values", str(tmp_path / "values.yaml"))
    assert len(re.findall(r"^- ", done.stderr, re.MULTILINE)) == 3


def values_of(tmp_path: Path, text: str) -> tuple[Mapping[str, Any], ...]:
    """Render the minimal values with ``text`` over them; a server accepts the objects."""
    (tmp_path / "values.yaml").write_text(text)
    items = objects(template("--values", str(MINIMAL), "--values", str(tmp_path / "values.yaml")))
    assert refusals(items) == []
    return items


def test_null_removes_a_default_that_is_not_needed(tmp_path: Path) -> None:
    items = values_of(tmp_path, "resources: null\naffinity: null\nenv: null\npodAnnotations: null\nextraContainers: null\n")
    assert find(items, "Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"] is None


def test_every_key_of_the_configuration_takes_the_values_of_its_type(tmp_path: Path) -> None:
    """The examples of docs/tracing.md; a type of which the schema knows nothing stops `make docs`."""
    text = (ROOT / "docs/tracing.md").read_text().partition("telemetry:\n")[2].partition("   ```")[0]
    values_of(tmp_path, "config:\n  telemetry:\n" + re.sub(r"^ {5}", "    ", text, flags=re.MULTILINE))
    values_of(tmp_path, "config: {telemetry: {attributes: 'a=b,c=d', sampleRatio: 1}}")
    with pytest.raises(ValueError, match="has no schema of 'a new type'"):
        generate._config_type("a new type")


@pytest.mark.parametrize(
    ("config", "ports"),
    [
        ("source: {url: 'https://gitlab.acme.example:8443/a.git'}", {53, 443, 8443}),
        ("source: {url: 'http://gitea.git.svc/a.git'}", {53, 443, 80}),
        ("telemetry: {enabled: true, endpoint: 'http://otel.monitoring:4318/v1/traces'}", {53, 443, 4318}),
        ("telemetry: {enabled: true, endpoint: 'https://otel.example/v1/traces'}", {53, 443}),
        ("telemetry: {endpoint: 'http://otel.monitoring:4318/v1/traces'}", {53, 443}),
    ],
)
def test_the_network_policy_lets_out_to_the_ports_that_the_configuration_names(
    config: str, ports: set[int], tmp_path: Path
) -> None:
    policy = find(values_of(tmp_path, f"config: {{{config}}}"), "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == ports


def test_the_headers_of_the_collector_come_from_a_secret(tmp_path: Path) -> None:
    items = values_of(tmp_path, "env: [{name: RECONCILER_TELEMETRY_HEADERS, existingSecret: otel, key: headers}]")
    env = find(items, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env[-1]["valueFrom"] == {"secretKeyRef": {"name": "otel", "key": "headers"}}


def test_openshift_resolves_names(tmp_path: Path) -> None:
    """Its DNS pods listen on another port than their Service."""
    rules = find(values_of(tmp_path, "openshift: true"), "NetworkPolicy")["spec"]["egress"]
    assert {(port["protocol"], port["port"]) for port in rules[0]["ports"]} == {
        (protocol, port) for protocol in ("TCP", "UDP") for port in (53, 5353)
    }


def test_a_storage_class_of_a_dash_is_none(tmp_path: Path) -> None:
    assert (
        find(values_of(tmp_path, "persistence: {storageClass: '-'}"), "PersistentVolumeClaim")["spec"]["storageClassName"] == ""
    )


@pytest.mark.parametrize(("own", "expected"), [("[]", "/run/reconciler/ca.crt"), ("[{name: PGSSLROOTCERT, value: /pg}]", "/pg")])
def test_the_certificate_of_the_database_is_checked_with_an_authority(own: str, expected: str, tmp_path: Path) -> None:
    database = "database: {type: postgresql, postgresql: {host: h, sslMode: verify-full, passwordSecret: {existingSecret: s}}}"
    items = values_of(tmp_path, f"{database}\ncaBundle: {{existingConfigMap: ca}}\nenv: {own}\n")
    env = find(items, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [item["value"] for item in env if item["name"] == "PGSSLROOTCERT"] == [expected]


@pytest.mark.parametrize("base", ["", "/reconciler"])
def test_a_gateway_publishes_the_dashboard_within_the_limits_of_a_route(base: str, tmp_path: Path) -> None:
    items = values_of(
        tmp_path,
        f"config: {{server: {{publicUrl: 'https://hooks.acme.example{base}'}}}}\npublicPaths: {{dashboard: true}}\n"
        "gateway: {enabled: true, host: hooks.acme.example, parentRefs: [{name: g}]}\n",
    )
    routes = [item for item in items if item["kind"] == "HTTPRoute"]
    assert len({route["metadata"]["name"] for route in routes}) == len(routes)
    rules = [rule for route in routes for rule in route["spec"]["rules"]]
    assert all(len(rule["matches"]) <= 8 for rule in rules)
    paths = {match["path"]["value"]: match["path"]["type"] for rule in rules for match in rule["matches"]}
    assert {f"{base}/", f"{base}/hooks", f"{base}/static", f"{base}/resources"} <= set(paths)
    assert {path for path, kind in paths.items() if kind == "Exact"} == ({"/"} if not base else {base, f"{base}/"})
    for rule in rules if base else []:
        rewrite = rule["filters"][0]["urlRewrite"]["path"]
        assert {rewrite.get("replaceFullPath", rewrite.get("replacePrefixMatch"))} == {
            (match["path"]["value"].removeprefix(base) or "/") for match in rule["matches"]
        }
    assert base or not any("filters" in rule for rule in rules)


# -- what follows from other files --------------------------------------------------------------------------------------


def test_the_chart_has_the_version_of_the_program() -> None:
    from reconciler import __version__

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_published_paths_are_those_of_the_dashboard_and_never_metrics_or_probes() -> None:
    source = (ROOT / "reconciler/server/dashboard/routes.py").read_text()
    pages = {"/" + path.split("/")[1] for path in re.findall(r'^ +\("(/[^"]*)", ', source, re.MULTILINE)}
    for values in VALUES:
        for item in rendered(values):
            if item["kind"] != "Ingress":
                continue
            paths = {path["path"]: path["pathType"] for path in item["spec"]["rules"][0]["http"]["paths"]}
            assert paths.pop("/", "Exact") == "Exact"
            assert not set(paths) & {"/metrics", "/healthz", "/readyz"}
            expected = {"/hooks", "/.well-known", "/api"}
            if values.stem in {"ingress-dashboard", "dashboard-login"}:
                expected |= pages - {"/"}
            assert set(paths) == expected


def test_a_route_below_a_path_removes_it() -> None:
    route = find(rendered(ROOT / "tests/deploy/values/gateway.yaml"), "HTTPRoute")
    for rule in route["spec"]["rules"]:
        path = rule["matches"][0]["path"]
        rewrite = rule["filters"][0]["urlRewrite"]["path"]
        assert path["value"] == "/reconciler" + rewrite["replacePrefixMatch"]


def test_a_changed_configuration_rolls_the_pods() -> None:
    def checksum(*arguments: str) -> str:
        items = objects(template("--values", str(MINIMAL), *arguments))
        annotations = find(items, "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    assert checksum("--set", "config.reconcile.interval=7m") != checksum()


def test_several_pods_are_spread_and_replaced_one_at_a_time() -> None:
    deployment = find(rendered(ROOT / "tests/deploy/values/postgres.yaml"), "Deployment")["spec"]
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    pod = deployment["template"]["spec"]
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    single = find(rendered(MINIMAL), "Deployment")["spec"]
    assert single["strategy"] == {"type": "Recreate"}
    assert "affinity" not in single["template"]["spec"]


def test_the_network_policy_lets_out_dns_https_and_what_the_values_need() -> None:
    def ports(values: str) -> set[int]:
        policy = find(rendered(ROOT / f"tests/deploy/values/{values}.yaml"), "NetworkPolicy")
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports("minimal") == {53, 443}
    assert ports("ssh") == {53, 443, 22}
    assert ports("postgres") == {53, 443, 5432}
    assert ports("vault") == {53, 443, 8200}


def test_prometheus_and_the_ingress_controller_are_let_in_and_nobody_else() -> None:
    policy = find(rendered(ROOT / "tests/deploy/values/monitoring.yaml"), "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    *peers, test = rule["from"]
    names = [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in peers]
    assert names == ["ingress-nginx", "monitoring"]
    pod = next(item for item in rendered(ROOT / "tests/deploy/values/monitoring.yaml") if item["kind"] == "Pod")
    assert test["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_rules_of_prometheus_are_those_of_the_repository() -> None:
    source = ROOT / "deploy/prometheus/rules.yaml"
    arguments = ("--values", str(MINIMAL), "--set", "metrics.prometheusRule.enabled=true")
    if not source.is_file():
        assert "--set-file metrics.prometheusRule.rules" in helm("template", "r", str(CHART), *arguments).stderr
        return
    items = objects(template(*arguments))
    assert refusals(items) == []
    assert find(items, "PrometheusRule")["spec"] == yaml.safe_load(source.read_text())


def test_the_image_is_that_of_the_tag_the_digest_or_the_chart() -> None:
    def image(values: str) -> str:
        deployment = find(rendered(ROOT / f"tests/deploy/values/{values}.yaml"), "Deployment")
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image("minimal") == f"reconciler:{yaml.safe_load((CHART / 'Chart.yaml').read_text())['appVersion']}"
    assert image("postgres") == "registry.acme.example/platform/reconciler:0.2.0"
    assert image("private-registry").startswith("registry.acme.example:5000/mirror/reconciler@sha256:3fa1")


def test_volume_and_master_key_outlive_the_release() -> None:
    assert find(rendered(MINIMAL), "PersistentVolumeClaim")["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    secret = find(rendered(ROOT / "tests/deploy/values/key-rotation.yaml"), "Secret")
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_notes_name_the_next_steps() -> None:
    done = helm("install", "r", str(CHART), "--dry-run=client", "--values", str(MINIMAL))
    assert done.returncode == 0, done.stderr
    assert "rollout status deployment/r-reconciler" in done.stdout
    assert "Providers send events to https://hooks.acme.example" in done.stdout

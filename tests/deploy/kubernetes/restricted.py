"""The Pod Security Standard `restricted`, which includes `baseline`: https://kubernetes.io/docs/concepts/security/pod-security-standards/"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
CAPABILITIES = {"NET_BIND_SERVICE"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def pods(items: Iterator[Object] | tuple[Object, ...]) -> Iterator[Object]:
    """Yield the specification of every pod that the objects make."""
    for item in items:
        if item["kind"] == "Pod":
            yield item["spec"]
        elif item["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet"}:
            yield item["spec"]["template"]["spec"]
        elif item["kind"] == "CronJob":
            yield item["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def violations(pod: Object) -> list[str]:
    """Return what an admission with ``enforce: restricted`` refuses in a pod."""
    problems = list(_pod(pod))
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, []):
            problems += [f"{container['name']}: {problem}" for problem in _container(container, pod.get("securityContext", {}))]
    return problems


def _pod(pod: Object) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}: {sorted(set(volume) - {'name'})}"
    security = pod.get("securityContext", {})
    if security.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    for sysctl in security.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _profiles(security, required=False)


def _container(container: Object, pod: Object) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities: ALL is not dropped"
    if set(capabilities.get("add", [])) - CAPABILITIES:
        yield f"capabilities: {capabilities['add']}"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if 0 in {own.get("runAsUser"), pod.get("runAsUser")}:
        yield "runAsUser is 0"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    handlers = [container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += list(container.get("lifecycle", {}).values())
    if any(handler.get(kind, {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")):
        yield "a probe or hook names a host"
    yield from _profiles({**pod, **own}, required=True)


def _profiles(security: Object, *, required: bool) -> Iterator[str]:
    seccomp = security.get("seccompProfile", {}).get("type")
    if seccomp not in {"RuntimeDefault", "Localhost"} and (required or seccomp is not None):
        yield f"seccompProfile is {seccomp}"
    if security.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in {"RuntimeDefault", "Localhost"}:
        yield "appArmorProfile"
    selinux = security.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"

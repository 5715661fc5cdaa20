"""ray_job_kuberay.yaml: fields that KubeRay's published definition knows, and the same promises as ray_cluster.yaml."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.build import main

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "ray_job_kuberay.yaml"

# Of the API reference of KubeRay 1.6, https://docs.ray.io/en/master/cluster/kubernetes/references/api.html
JOB_FIELDS = {"entrypoint", "runtimeEnvYAML", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
JOB_FIELDS |= {"submissionMode", "rayClusterSpec", "clusterSelector", "submitterPodTemplate", "suspend"}
JOB_FIELDS |= {"activeDeadlineSeconds", "jobId", "metadata", "submitterConfig", "entrypointNumCpus"}
CLUSTER_FIELDS = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions", "headGroupSpec"}
CLUSTER_FIELDS |= {"workerGroupSpecs", "suspend", "gcsFaultToleranceOptions"}
HEAD_FIELDS = {"rayStartParams", "template", "serviceType", "headService", "enableIngress", "resources", "labels"}
WORKER_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "rayStartParams"}
WORKER_FIELDS |= {"template", "numOfHosts", "scaleStrategy", "suspend", "resources", "labels"}


@pytest.fixture
def spec() -> dict[str, Any]:
    job = yaml.safe_load(FILE.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    return job["spec"]


@pytest.fixture
def cluster(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["rayClusterSpec"]


def test_every_field_is_one_that_kuberay_knows(spec: dict[str, Any], cluster: dict[str, Any]) -> None:
    assert set(spec) <= JOB_FIELDS and set(cluster) <= CLUSTER_FIELDS
    assert set(cluster["headGroupSpec"]) <= HEAD_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKER_FIELDS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_start_parameters_are_strings_and_every_pod_mounts_the_shared_folder_and_bounds_what_it_takes(
    cluster: dict[str, Any],
) -> None:
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_cluster_asks_for_a_token_and_its_head_takes_no_tasks(cluster: dict[str, Any]) -> None:
    assert cluster["authOptions"] == {"mode": "token"} and cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_job_runs_a_build_that_our_command_line_takes(spec: dict[str, Any]) -> None:
    shell, flag, script = shlex.split(spec["entrypoint"])
    assert (shell, flag) == ("sh", "-c")
    words = script.split("&&")[1].split()
    assert words[:3] == [".venv/bin/python", "-m", "jobs.build"]
    options = main.parser().parse_args(words[3:])
    assert options.address == "auto" and options.wait_s > 0


def test_the_ray_is_the_one_that_was_tested(spec: dict[str, Any]) -> None:
    version = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert version and spec["rayClusterSpec"]["rayVersion"] == version[1]
    assert f"rayproject/ray:{version[1]}-py311-cpu" in FILE.read_text()

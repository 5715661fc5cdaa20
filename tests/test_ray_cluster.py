"""ray_cluster.yaml against Ray's own schema, against what the project promises, and against a running Ray."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.dataset.check import check_dataset
from tests.labs.cluster import NUM_CLIPS, Journal
from tests.labs.ray_head import FILE, ROOT, WAIT_S, Jobs, autoscaling_head, job_server, until

COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands", "head_start_ray_commands")
COMMANDS += ("worker_start_ray_commands",)


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The file as `ray up` sees it: with Ray's defaults filled in, and validated."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_the_file_passes_rays_own_schema_and_its_head_takes_no_tasks(prepared: dict[str, Any]) -> None:
    head = prepared["available_node_types"]["head"]
    assert head["max_workers"] == 0 and head["resources"] == {"CPU": 0}


def test_rays_schema_would_find_a_mistake(config: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    config["available_node_types"]["gpu"]["max_worker"] = 1
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


def test_cpu_and_gpu_workers_come_and_go_with_the_load(prepared: dict[str, Any]) -> None:
    kinds = prepared["available_node_types"]
    groups = {name: kind for name, kind in kinds.items() if name != prepared["head_node_type"]}
    assert [name for name, kind in groups.items() if kind["resources"].get("GPU")] == ["gpu"]
    for kind in groups.values():
        assert kind["min_workers"] == 0 < kind["max_workers"]
        assert kind["resources"]["CPU"] >= 1
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert prepared["max_workers"] == sum(kind["max_workers"] for kind in groups.values())
    assert 0 < prepared["idle_timeout_minutes"] <= 10


def test_every_node_installs_what_make_setup_installs(config: dict[str, Any]) -> None:
    home = "/home/ray/vico-pipeline"
    mounted = {remote: local for remote, local in config["file_mounts"].items() if remote.startswith(home)}
    for remote, local in mounted.items():
        assert remote == f"{home}/{local}" and (ROOT / local).is_file()
    assert set(mounted.values()) == {"pyproject.toml", "constraints.txt", "jobs/setup.py"}
    assert f"python {home}/jobs/setup.py" in config["setup_commands"]


def test_the_image_is_of_the_tested_ray_and_sees_the_gpu_although_it_is_made_for_cpus(config: dict[str, Any]) -> None:
    version = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert version and config["docker"]["image"] == f"rayproject/ray:{version[1]}-py311-cpu"
    assert "-e NVIDIA_VISIBLE_DEVICES=all" in " ".join(config["docker"]["run_options"])


def test_ray_starts_with_token_authentication_everywhere(config: dict[str, Any]) -> None:
    starts = [line for name in COMMANDS for line in config[name] if "ray start" in line]
    assert len(starts) == 2 and all(line.startswith("RAY_AUTH_MODE=token ray start ") for line in starts)
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_every_command_is_valid_shell(config: dict[str, Any]) -> None:
    for line in (line for name in COMMANDS for line in config[name]):
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_what_a_user_must_fill_in_is_explained_at_the_top() -> None:
    comments, settings = FILE.read_text().split("\ncluster_name:")
    blanks = set(re.findall(r"\w+-FILL-IN", settings))
    assert blanks == {"ami-FILL-IN", "fs-FILL-IN"} == set(re.findall(r"\w+-FILL-IN", comments))


# --- the start commands, run here


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    with job_server() as jobs:
        yield jobs


@pytest.mark.slow
def test_a_job_with_the_token_runs_on_the_worker(jobs: Jobs) -> None:
    program = "import jobs, ray; ray.init('auto'); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"
    result = jobs.submit(["python", "-c", program])
    assert result.returncode == 0 and "\n42\n" in result.stdout, result.stdout + result.stderr


@pytest.mark.slow
def test_a_job_without_the_token_is_refused(jobs: Jobs) -> None:
    result = jobs.submit(["python", "-c", "print(42)"], token=False)
    assert result.returncode != 0 and "submitted successfully" not in result.stdout
    assert re.search(r"authentication|unauthori[sz]ed|401", result.stdout + result.stderr, re.IGNORECASE)


@pytest.mark.slow
def test_a_stopped_build_goes_on_where_it_was_when_it_is_submitted_again(jobs: Jobs, tmp_path: Path) -> None:
    project = Journal(tmp_path, seconds=0.1)
    build = ["python", *project.command("out", "--address", "auto")]
    first = jobs.submit(build, "--no-wait", "--submission-id", "first")
    assert first.returncode == 0 and "first" in first.stdout, first.stdout + first.stderr
    until(lambda: len(project.whole()) >= 4, "files of parts")
    project.hold.touch()
    assert jobs.status("first") == "running"
    assert jobs("stop", "first").returncode == 0
    assert jobs.until("first", "stopped", "failed", "succeeded") == "stopped"
    safe = project.whole()
    assert 4 <= len(safe) < 2 * NUM_CLIPS
    project.hold.unlink()
    again = jobs.submit(build, "--submission-id", "again")
    assert again.returncode == 0, again.stdout + again.stderr
    logs = jobs("logs", "again").stdout
    assert f"{NUM_CLIPS} of {NUM_CLIPS} clips published" in logs and "[stages.first] version 1" in logs
    assert all(project.runs()[done] == 1 for done in safe)
    assert list(check_dataset(tmp_path / "out")) == []


@pytest.mark.slow
def test_a_build_that_is_wrong_fails_its_job_and_says_why_in_the_logs(jobs: Jobs, tmp_path: Path) -> None:
    result = jobs.submit(["python", "-m", "jobs.build", str(tmp_path / "none.toml"), "--out", str(tmp_path / "out")])
    assert result.returncode == 1 and "none.toml" in result.stdout, result.stdout + result.stderr


# --- the node types, started by Ray's autoscaler with its fake provider


@pytest.mark.slow
@pytest.mark.timeout(600)  # a head, an autoscaler, a node and a build, beside others on a shared machine
def test_a_build_on_a_cluster_without_workers_gets_its_nodes(tmp_path: Path) -> None:
    project = Journal(tmp_path, seconds=0.1)
    with autoscaling_head() as head:
        until(lambda: head.num_nodes() == 1, "the head's own node")
        wait = ("--wait-s", str(WAIT_S))
        with project.building(head.address, *wait, environment=head.environment) as process:
            assert process.wait(timeout=WAIT_S) == 0, project.said()
        assert f"{NUM_CLIPS} of {NUM_CLIPS} clips published" in project.said()
        nodes = {node for *_, node, _ in project.entries()}
        assert nodes and all(node.startswith("ffff") for node in nodes)  # ids that the fake provider gives
    assert list(check_dataset(tmp_path / "out")) == []

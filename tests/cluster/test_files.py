"""The files in cluster/ are valid for the programs that read them, and consistent with each other."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from moto import mock_aws
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts import scripts as ray_commands

from ddl.command_line import parser
from tests.sweeps.command import ROOT

CLUSTER = ROOT / "cluster"
SCHEMA = yaml.safe_load((Path(__file__).parent / "kubernetes.schema.yaml").read_text())
LAUNCHER = ("onprem.yaml", "aws.yaml")
KUBERAY = ("raycluster.yaml", "rayjob.yaml")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][^=\s]*)==(\S+)", path.read_text(), flags=re.MULTILINE))


def ray_cluster(name: str) -> dict[str, Any]:
    spec = documents(name)[0]["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name: str) -> list[dict[str, Any]]:
    """The head's first."""
    cluster = ray_cluster(name)
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


class TestLauncher:
    """`ray up`, as far as it goes before it touches a machine."""

    @pytest.fixture
    def cloud(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "nobody")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("HOME", str(tmp_path))  # a key for SSH is made there
        monkeypatch.setattr("ray.autoscaler._private.aws.config.time.sleep", lambda seconds: None)
        with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
            yield

    @pytest.mark.parametrize("name", LAUNCHER)
    def test_a_misspelt_key_is_refused(self, name: str) -> None:
        (config,) = documents(name)
        with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
            validate_config(prepare_config(config | {"setup_comands": []}))

    def test_ray_takes_the_one_for_machines_of_ones_own(self) -> None:
        (config,) = documents("onprem.yaml")
        resolved = _bootstrap_config(config, no_config_cache=True)
        assert resolved["max_workers"] == len(config["provider"]["worker_ips"])
        self.asks_for_the_token(resolved)

    def test_ray_and_amazon_take_the_one_for_the_cloud_and_only_ssh_comes_in(self, cloud: None) -> None:
        (config,) = documents("aws.yaml")
        client = boto3.client("ec2")
        image = client.describe_images()["Images"][0]["ImageId"]
        for node in config["available_node_types"].values():
            node["node_config"]["ImageId"] = image
        resolved = _bootstrap_config(config, no_config_cache=True)
        self.asks_for_the_token(resolved)
        for node in resolved["available_node_types"].values():
            asked = {key: value for key, value in node["node_config"].items() if key != "SubnetIds"}
            (started,) = client.run_instances(MinCount=1, MaxCount=1, **asked)["Instances"]
            assert started["InstanceType"] == asked["InstanceType"]
        assert resolved["available_node_types"]["worker"]["resources"]["GPU"] == 4
        assert resolved["available_node_types"]["head"]["resources"]["CPU"] == 0
        groups = client.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["ray-autoscaler-ddl"]}])["SecurityGroups"]
        rules = [rule for group in groups for rule in group["IpPermissions"]]
        assert rules
        assert all(rule.get("FromPort") == rule.get("ToPort") == 22 for rule in rules if rule["IpRanges"] or rule.get("Ipv6Ranges"))

    def asks_for_the_token(self, resolved: dict[str, Any]) -> None:
        """The token comes to every node, and every node is started with it and with options that `ray start` has."""
        assert resolved["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            stop, start = resolved[key]
            assert stop.endswith("ray stop")
            assert "RAY_AUTH_MODE=token" in start
            assert ray_commands.start.make_context("start", shlex.split(start.partition("ray start ")[2]))
        assert "--include-dashboard=false" in resolved["head_start_ray_commands"][1]
        assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in resolved["head_start_ray_commands"][1], "it starts the other nodes"


class TestKubeRay:
    @pytest.mark.parametrize("name", KUBERAY)
    def test_each_document_has_the_fields_that_there_are(self, name: str) -> None:
        for document in documents(name):
            jsonschema.validate(document, SCHEMA)

    @pytest.mark.parametrize("name", KUBERAY)
    def test_a_misspelt_field_is_found(self, name: str) -> None:
        document, policy = documents(name)
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        spec["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
        policy["spec"]["ingres"] = []
        for wrong in (document, policy):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, SCHEMA)

    @pytest.mark.parametrize("name", KUBERAY)
    def test_the_token_comes_from_the_secret_that_the_readme_makes(self, name: str) -> None:
        auth = ray_cluster(name)["authOptions"]
        assert auth["mode"] == "token"
        (made,) = re.findall(r"kubectl create secret generic (\S+) --from-file=auth_token=", (CLUSTER / "README.md").read_text())
        assert auth["secretName"] == made

    @pytest.mark.parametrize("name", KUBERAY)
    def test_all_nodes_are_one_image_without_rights(self, name: str) -> None:
        (image,) = {container["image"] for other in KUBERAY for pod in pods(other) for container in pod["spec"]["containers"]}
        assert f"--tag {image} " in (CLUSTER / "Dockerfile").read_text()
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert image.endswith(f"/ddl:{version}")
        assert ray_cluster(name)["rayVersion"] == locked(ROOT / "requirements.lock")["ray"]
        for pod in pods(name):
            assert pod["spec"]["securityContext"]["runAsUser"] == int(re.findall(r"^USER (\d+)$", dockerfile(), flags=re.MULTILINE)[-1])
            assert pod["spec"]["automountServiceAccountToken"] is False
            mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
            assert mounts.keys() == {volume["name"] for volume in pod["spec"]["volumes"]}
            assert mounts.get("data", "/data") == dict(re.findall(r"(DDL_CACHE)=(\S+)", dockerfile()))["DDL_CACHE"]

    @pytest.mark.parametrize("name", KUBERAY)
    def test_nobody_reaches_it_from_outside(self, name: str) -> None:
        head = ray_cluster(name)["headGroupSpec"]
        assert head["serviceType"] == "ClusterIP"
        assert head["enableIngress"] is False
        ports = {port["name"]: port["containerPort"] for port in pods(name)[0]["spec"]["containers"][0]["ports"]}
        assert ports["gcs-server"] == 6379
        policy = documents(name)[1]["spec"]
        assert policy["policyTypes"] == ["Ingress"]
        for pod in pods(name):
            assert pod["metadata"]["labels"].items() >= policy["podSelector"]["matchLabels"].items()
        own, *others = policy["ingress"]
        assert own == {"from": [{"podSelector": policy["podSelector"]}]}
        if name == "raycluster.yaml":
            assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
            assert ports.keys() == {"gcs-server"}
            assert others == []
        else:  # the operator asks the job server how the job is
            assert [rule["ports"] for rule in others] == [[{"port": ports["dashboard"]}]]

    def test_the_job_runs_a_sweep_that_can_go_on(self) -> None:
        job = documents("rayjob.yaml")[0]["spec"]
        python, script, *arguments = shlex.split(job["entrypoint"])
        assert (python, script) == ("python", "/opt/ddl/sweep.py")
        given = parser().parse_intermixed_args(arguments)
        assert (given.sweep, given.scale, given.address) == ("augmentation", "paper", "auto")
        (shared,) = {
            m["mountPath"] for pod in pods("rayjob.yaml") for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "shared"
        }
        assert Path(given.out).is_relative_to(shared), "workers keep checkpoints where the next one finds them"
        assert pods("rayjob.yaml")[0]["spec"]["restartPolicy"] == "Never", "as the operator demands of SidecarMode"


def dockerfile() -> str:
    return (CLUSTER / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest), without comments, continued lines as one."""
    lines = "\n".join(line for line in dockerfile().splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines.splitlines()) if word]


class TestDockerfile:
    def test_what_it_copies_is_there_and_is_sent_to_the_builder(self) -> None:
        sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        sources = {source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]}
        assert {"requirements.lock", "ddl", "tune_configs"} <= sources
        assert sources == sent
        assert not [source for source in sources if not (ROOT / source).exists()]

    def test_nothing_is_installed_but_what_is_locked(self) -> None:
        installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
        libraries, ddl = installs
        assert "--require-hashes --requirement requirements.lock --requirement dashboard.lock" in libraries
        assert shlex.split(ddl)[-1] == "."
        assert {"--no-deps", "--no-build-isolation"} <= set(shlex.split(ddl))
        for lock in (ROOT / "requirements.lock", CLUSTER / "dashboard.lock"):
            pinned = [block for block in re.split(r"\n(?=[a-z0-9])", lock.read_text()) if "==" in block and not block.startswith("#")]
            assert pinned
            assert all("--hash=sha256:" in block for block in pinned)

    def test_the_two_locks_are_one(self) -> None:
        ours, more = locked(ROOT / "requirements.lock"), locked(CLUSTER / "dashboard.lock")
        assert not ours.keys() & more.keys()
        assert f"ray[default]=={ours['ray']}" in (CLUSTER / "dashboard.lock").read_text()
        assert {"aiohttp-cors", "opencensus", "prometheus-client", "smart-open", "virtualenv"} <= more.keys(), (
            "what Ray's job server imports"
        )

    def test_it_ends_as_nobody_special(self) -> None:
        users = [rest for word, rest in instructions() if word == "USER"]
        assert users == ["1000"]
        last = [word for word, _ in instructions()]
        assert "RUN" not in last[last.index("USER") :]

    def test_the_base_has_the_python_that_ddl_needs(self) -> None:
        ((_, base), *_) = instructions()
        assert base.startswith("python:3.11-")


def test_readme_names_each_file_and_only_commands_that_there_are() -> None:
    text = (CLUSTER / "README.md").read_text()
    for file in CLUSTER.iterdir():
        if file.name not in ("README.md", "dashboard.lock"):
            assert f"cluster/{file.name}" in text or f"`{file.name}`" in text, file.name
    runner = CliRunner()
    commands = set(re.findall(r"\bray ([a-z][a-z-]*)", text))
    assert {"up", "exec", "down", "start", "get-auth-token"} <= commands
    for command in sorted(commands):
        assert runner.invoke(ray_commands.cli, [command, "--help"]).exit_code == 0, command

"""The containers' files keep their promises, as far as can be seen without building them."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from house.source import ROOT
from retort.training import placement
from retort.training.data.host_memory import BatchMemory, choose

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def pins(title: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{title}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", text, re.MULTILINE))


def test_compose_has_every_part():
    assert set(SERVICES) == {"db", "redis", "migrate", "api", "worker", "worker-cpu", "lab"}


def test_the_images_are_given_what_their_wheel_takes_in():
    """Agents' skills became part of the wheel, and were kept from the images that build it."""
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert {path.partition("/")[0] for path in (*wheel["packages"], *wheel["force-include"])} <= sent


def test_every_secret_must_be_given():
    references = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN)\w*)(:\?)?", (ROOT / "docker-compose.yml").read_text())

    assert references
    assert all(demanded for _, demanded in references)


def test_what_others_wait_for_says_when_it_is_ready():
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            healthy = "healthcheck" in SERVICES[name] and wait["condition"] == "service_healthy"
            assert healthy or wait["condition"] == "service_completed_successfully"


def test_the_broker_forgets_nothing_and_evicts_nothing():
    command = " ".join(SERVICES["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_worker_reserves_a_gpu_and_its_twin_stands_behind_a_profile():
    [device] = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]

    assert device["capabilities"] == ["gpu"]
    assert SERVICES["worker-cpu"]["profiles"] == ["cpu"]
    assert "deploy" not in SERVICES["worker-cpu"]
    assert all(SERVICES[name]["stop_grace_period"] == "2m" for name in ("worker", "worker-cpu"))


def test_the_twin_for_the_cpu_is_declared_so():
    """The image asks for all GPUs: with NVIDIA's runtime as the default one, the twin got them."""
    told = SERVICES["worker-cpu"]["environment"]

    assert (told["CUDA_VISIBLE_DEVICES"], told["NVIDIA_VISIBLE_DEVICES"]) == ("-1", "void")
    assert not {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"} & SERVICES["worker"]["environment"].keys()


@pytest.mark.parametrize("batch", [64, 128])
def test_eight_loader_processes_have_the_shared_memory_that_they_need(batch: int):
    limits = [re.search(r":-(\d+)gb\}", SERVICES[name]["shm_size"]) for name in ("worker", "worker-cpu")]
    memory, free = BatchMemory(batch, 640), [int(limit[1]) << 30 for limit in limits if limit]
    chosen = [choose(8, memory, cuda=True, host=None, shared=room) for room in free]

    assert [one.workers for one in chosen] == [8, 8]


def test_the_workers_image_and_its_pages_name_the_driver_that_its_torch_needs():
    [cuda] = re.findall(r"^nvidia-cuda-runtime==(\d+)\.", (ROOT / "requirements/worker.txt").read_text(), re.MULTILINE)
    needed = placement.NEEDED_DRIVER[int(cuda)]
    text = (ROOT / "Dockerfile.gpu").read_text()

    assert re.findall(r"^ARG BASE_IMAGE=\S+/cuda:(\d+)\.", text, re.MULTILINE) == [cuda]
    assert f"driver has to be {needed} or newer" in text
    assert f"driver {needed} or newer" in (ROOT / "docker-compose.yml").read_text()
    page = (ROOT / "docs" / "gpus.md").read_text()
    assert re.search(rf"^\| CUDA {cuda} .*\| {needed} \|", page, re.MULTILINE)
    assert f"needs the driver ({needed} or newer)" in page


def test_the_workers_image_can_compile_for_the_gpu():
    """torch.compile fell back without a word: Triton needs a C compiler and Python's headers when it runs."""
    text = (ROOT / "Dockerfile.gpu").read_text()
    final = text[: text.index("FROM base AS wheel")]

    assert " g++ " in final
    assert "python3-dev" in final
    assert "#include <Python.h>" in text[text.rindex("\nFROM ") :], "tried where the image is built"


def test_what_env_sets_reaches_every_part_of_the_service():
    """Seventeen settings of .env.example once reached no container."""
    for name in ("migrate", "api", "worker", "worker-cpu"):
        assert {"path": ".env", "required": False} in SERVICES[name]["env_file"]
        given = SERVICES[name]["environment"]
        assert all(value for variable, value in given.items() if variable.startswith("RETORT_"))
        assert "RETORT_SLOTS" not in given, "as many runs as there are GPUs"


def test_a_password_is_no_part_of_a_url():
    assert not re.search(r"://[^/\s]*PASSWORD", (ROOT / "docker-compose.yml").read_text())


def test_all_of_the_service_agree_on_where_things_are():
    keys = {"RETORT_HOME", "RETORT_DATABASE_URL", "RETORT_BROKER_URL", "RETORT_STORE_URL", "RETORT_DATA_DIRS"}
    told = [
        {key: SERVICES[name]["environment"][key] for key in keys} for name in ("migrate", "api", "worker", "worker-cpu")
    ]

    assert all(one == told[0] for one in told)


@pytest.mark.parametrize("file", ["Dockerfile.gpu", "api/Dockerfile"])
def test_an_image_drops_its_rights_takes_its_base_as_an_argument_and_pins_by_hash(file: str):
    text = (ROOT / file).read_text()
    last = text[text.rindex("\nFROM ") :]

    assert re.search(r"^ARG BASE_IMAGE=\S+$", text, re.MULTILINE)
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert text.count("--require-hashes") == 3
    assert last.rstrip().splitlines()[-1].startswith('CMD ["python", "-m", "retort_')


@pytest.mark.parametrize("title", ["api", "worker", "lab", "build", "uv"])
def test_images_and_tests_run_on_the_same_versions(title: str):
    tested = pins("dev")

    assert pins(title)
    assert {name: version for name, version in pins(title).items() if tested.get(name) != version} == {}


def test_the_apis_image_gets_no_torch():
    assert not {"torch", "torchvision", "ultralytics", "opencv-python", "onnxruntime"} & pins("api").keys()
    assert {"torch", "ultralytics", "celery"} <= pins("worker").keys()


def test_the_lab_knows_no_secret_of_the_service_and_reaches_the_api_alone():
    lab = SERVICES["lab"]

    assert lab["environment"].keys() == {"RETORT_URL", "RETORT_BROWSER_URL", "RETORT_KEY", "LAB_SSH_KEYS"}
    assert "env_file" not in lab
    assert {name for name, service in SERVICES.items() if "lab" in service.get("networks", [])} == {"lab", "api"}
    assert lab["networks"] == ["lab"]
    assert [volume.split(":")[0] for volume in lab["volumes"]] == ["lab", "${DATA_DIR"]


def test_the_lab_runs_without_rights_behind_a_profile_and_on_this_machine():
    lab, text = SERVICES["lab"], (ROOT / "deploy/lab/Dockerfile").read_text()

    assert (lab["profiles"], lab["cap_drop"], lab["security_opt"]) == (["lab"], ["ALL"], ["no-new-privileges:true"])
    assert all(port.startswith(("127.0.0.1:", "${LAB_SSH_BIND:-127.0.0.1}:")) for port in lab["ports"])
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["root", "10001:10001"]
    assert text.count("--require-hashes") == 2


def test_ssh_lets_in_by_keys_alone_and_no_image_has_a_password_or_a_key_of_a_host():
    text = (ROOT / "deploy/lab/sshd_config").read_text()
    told = dict(line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    refused = ("PasswordAuthentication", "KbdInteractiveAuthentication", "PermitEmptyPasswords", "PermitRootLogin")

    assert told["AuthenticationMethods"] == "publickey"
    assert {told[name] for name in (*refused, "UsePAM", "X11Forwarding", "AllowAgentForwarding")} == {"no"}
    image = (ROOT / "deploy/lab/Dockerfile").read_text()
    assert "rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*" in image
    assert not re.search(r"chpasswd|passwd |--password", image)

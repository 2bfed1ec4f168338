"""docker-compose.yml runs the processes that ``litmus up`` runs, on pinned images."""

import re
from pathlib import Path

from tools.home import Home
from tools.processes import plan_stack
from tools.settings import CHECKOUT, Settings

COMPOSE = (CHECKOUT / "docker-compose.yml").read_text()


def test_every_process_of_the_stack_is_a_service(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka="127.0.0.1:9", gateway_port=0, query_port=0)
    plan = plan_stack(settings, Home(tmp_path), 1)

    modules = {spec.program for stage in plan.stages for spec in stage.processes}

    assert modules == set(re.findall(r'command: \["python", "-m", "([\w.]+)"\]', COMPOSE))


def test_images_are_pinned_and_ports_are_of_this_machine_alone() -> None:
    images = re.findall(r"image: (\S+)", COMPOSE)
    published = re.findall(r'ports: \["([^"]+)"\]', COMPOSE)

    assert images
    assert all(re.search(r":[\w.]*\d|:local$", image) for image in images)
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)

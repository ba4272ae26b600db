"""Image and chart together: pods that the chart makes, run with the image, as `kubelet` does it.

What a cluster would have is here: a broker, a platform, the Secrets that the values name, an API server for Leases.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.chart.rendering import ALL, NAME, NAMESPACE, Rendered, rendered
from tests.image.engine import Engine
from tests.image.kubelet import Files, Pod, kept, size
from tests.image.running import simulated
from tests.image.still import TAG, same
from tests.support import free_port
from tests.support.ear import Ear
from tests.support.kube import Kube
from tests.support.mosquitto import Certificates, Mosquitto

PLATFORM = "pods-platform"
UPS = "ws2mqtt/lora/application/+/device/+/event/up"


@dataclass(frozen=True)
class Cluster:
    engine: Engine
    broker: Mosquitto
    ear: Ear
    kube: Kube
    around: dict[str, Files]

    def rendered(self, ci: str, port: int, **values: Any) -> Rendered:
        """With this broker, and a port that is free on this machine."""
        config = {"mqtt": {"url": self.broker.url()}, "http": {"listen": f"0.0.0.0:{port}"}}
        return rendered(ci, config=config, service={"port": port}, **values)

    def pod(self, name: str, objects: Rendered, **more: Any) -> Pod:
        token = {"token": (self.kube.credentials(name) / "token").read_text()}
        around = {**self.around, **kept(objects), "token": token}
        return Pod(self.engine, name, objects.pod["spec"], around, environment=self.kube.environment, **more)

    async def up(self, since: int) -> None:
        """Until an event arrives."""
        await self.ear.wait_topic(UPS, since=since)

    async def tested(self, objects: Rendered) -> str:
        """What the pod of `helm test` prints. Raises Broken where it fails."""
        (test,) = objects.of("Pod")
        service = f"{NAME}.{NAMESPACE}"  # whose port is the pod's own here
        return await Pod(self.engine, "tested", test["spec"], {}, container="test", hosts=(service,)).run()


@asynccontextmanager
async def cluster(engine: Engine) -> AsyncIterator[Cluster]:
    folder = engine.folder / "cluster"
    folder.mkdir()
    version = (await engine.inspect(TAG))["Config"]["Labels"]["org.opencontainers.image.version"]
    await engine.podman("tag", TAG, f"{TAG}:{version}")
    certificates = Certificates.make(folder)
    async with Mosquitto(folder) as broker, Ear(broker.url(), UPS) as ear, Kube(certificates, folder) as kube:
        url = await simulated(engine, PLATFORM)
        ca = certificates.ca_file.read_text()
        mine = certificates.client
        client = {"tls.crt": mine.cert_file.read_text(), "tls.key": mine.key_file.read_text()}
        around: dict[str, Files] = {
            "ws2mqtt": {"lora": url, "mqtt": "p"}, "broker": {"password": "p"}, "more": {"A": "b"},
            "ws2mqtt-mqtt": {"mqtt": "p"}, "ws2mqtt-iotpro": {"iotpro": "p"}, "ws2mqtt-resiot": {"RESIOT_TOKEN": "t"},
            "ws2mqtt-smartserver": {"smartserver": "p"}, "switchboard": {"password": "p"},
            "house-ca": {"ca.crt": ca}, "broker-client": client, "kube-root-ca.crt": {"ca.crt": ca},
        }  # fmt: skip
        yield Cluster(engine, broker, ear, kube, around)


async def its_files_can_be_read_in_every_way_of_use(here: Cluster) -> None:
    for ci in ALL:
        await here.pod(f"check-{ci}", rendered(ci), image=TAG).run("check", "-c", "/etc/ws2mqtt/ws2mqtt.yaml")


async def with_nothing_set_the_pod_lives_and_waits_for_a_broker(here: Cluster) -> None:
    pod = here.pod("default-0", rendered(), network="none")
    await pod.start()
    await pod.until("startupProbe")
    same("live", await pod.asked("livenessProbe"), "")
    same("it waits", '"waiting":["mqtt"]' in (await pod.asked("readinessProbe")).replace(" ", ""), True)
    same("exit code", await pod.stop(), 0)


async def one_replica_brings_events_within_the_memory_it_asks_for(here: Cluster) -> None:
    port, mark = free_port(), len(here.ear.messages)
    objects = here.rendered("minimal", port)
    pod = here.pod("minimal-0", objects)
    await pod.start()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        await pod.until(probe)
    await here.up(mark)
    seen = await pod.first_line("ws2mqtt", "watch", "-c", "/etc/ws2mqtt/ws2mqtt.yaml", "--json", UPS)
    same("watch shows events", '"resiot.up"' in seen, True)
    same("the outbox is on its volume", "lora.sqlite" in pod.files("outbox"), True)
    asked = size(pod.container["resources"]["requests"]["memory"])
    same("its memory is below what it asks for", (await pod.most_memory()) < asked, True)
    same("what helm test says", "/metrics 200 ws2mqtt_build_info{" in await here.tested(objects), True)
    same("exit code", await pod.stop(), 0)


async def of_two_replicas_one_is_active_and_the_other_takes_over(here: Cluster) -> None:
    pods = {}
    for name in ("two-a", "two-b"):
        pods[name] = here.pod(name, here.rendered("ha", free_port()))
        await pods[name].start()
    for pod in pods.values():
        await pod.until("startupProbe")
        await pod.until("readinessProbe")
    mark = len(here.ear.messages)
    await here.up(mark)
    active = here.kube.holder(NAME).partition("_")[0]
    (other,) = pods.keys() - {active}
    same("exit code of the active one", await pods[active].stop(), 0)
    mark = len(here.ear.messages)
    await here.up(mark)
    same("who is active now", here.kube.holder(NAME).partition("_")[0], other)
    same("exit code of the other one", await pods[other].stop(), 0)


CHECKS = (
    its_files_can_be_read_in_every_way_of_use,
    with_nothing_set_the_pod_lives_and_waits_for_a_broker,
    one_replica_brings_events_within_the_memory_it_asks_for,
    of_two_replicas_one_is_active_and_the_other_takes_over,
)

"""A Kubernetes API server as far as one kind of object goes: Lease, over HTTPS, with tokens and a CA of its own.

Strict where the real one is (coordination/validation, apimachinery): MicroTime has exactly six digits, a PUT names the
resourceVersion it was made from and gets 409 for another, a PUT that changes nothing changes no version, a POST of what
is there gets 409; errors are Status objects. `Store` is all of that without a network.
"""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import h11

from tests.support import PATIENCE_S, Record, close, free_port
from tests.support.mosquitto import HOST, Certificates

# reset: the connection is closed instead of an answer · hang: nothing is done, nothing answered · deaf: it is done, but
# not answered · a number: that HTTP status
Fault = Literal["reset", "hang", "deaf"] | int

_MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_PATH = re.compile(r"/apis/coordination\.k8s\.io/v1/namespaces/([^/?]+)/leases(?:/([^/?]+))?")
_REASONS = {400: "BadRequest", 401: "Unauthorized", 404: "NotFound", 405: "MethodNotAllowed", 409: "Conflict",
            422: "Invalid", 500: "InternalError"}  # fmt: skip

Lease = dict[str, Any]


class No(Exception):
    """What the server refuses, as a Status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    @property
    def body(self) -> Lease:
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
                "reason": _REASONS.get(self.code, "Unknown"), "code": self.code}  # fmt: skip


class Store:
    """The Leases there are, by namespace and name."""

    def __init__(self, namespaces: tuple[str, ...] = ("iot",)) -> None:
        self.namespaces, self.leases, self.version = namespaces, dict[tuple[str, str], Lease](), 1000

    def carry_out(self, method: str, path: str, body: bytes | None) -> tuple[int, Lease]:
        """Status and object. Raises No."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise No(404, "the server could not find the requested resource")
        namespace, name = found.groups()
        key = (namespace, name or "")
        match method, name:
            case "GET", str():
                return 200, self._there(key)
            case "POST", None:
                return 201, self._create(namespace, _object(body))
            case "PUT", str():
                return 200, self._replace(key, _object(body))
        raise No(405, f"{method} is not allowed here")

    def _there(self, key: tuple[str, str]) -> Lease:
        if key not in self.leases:
            raise No(404, f'leases.coordination.k8s.io "{key[1]}" not found')
        return self.leases[key]

    def _create(self, namespace: str, lease: Lease) -> Lease:
        if namespace not in self.namespaces:
            raise No(404, f'namespaces "{namespace}" not found')
        _validate(lease)
        key = (namespace, lease["metadata"].get("name"))
        if key in self.leases:
            raise No(409, f'leases.coordination.k8s.io "{key[1]}" already exists')
        if lease["metadata"].get("resourceVersion"):
            raise No(400, "resourceVersion should not be set on objects to be created")
        metadata = {"uid": "0d6f", "creationTimestamp": "2024-03-05T07:16:30Z", "managedFields": [{"manager": "x"}]}
        return self._store(key, {**lease, "metadata": {**lease["metadata"], **metadata}})

    def _replace(self, key: tuple[str, str], lease: Lease) -> Lease:
        old = self._there(key)
        _validate(lease)
        if (lease["metadata"].get("name"), lease["metadata"].get("namespace", key[0])) != (key[1], key[0]):
            raise No(400, "the name of the object does not match the name on the URL")
        version = lease["metadata"].get("resourceVersion")
        if not version:
            raise No(422, "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
        if version != old["metadata"]["resourceVersion"]:
            raise No(409, "the object has been modified; please apply your changes to the latest version and try again")
        return old if lease == old else self._store(key, lease)

    def _store(self, key: tuple[str, str], lease: Lease) -> Lease:
        self.version += 1
        lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        self.leases[key] = lease
        return lease


def _object(body: bytes | None) -> Lease:
    try:
        lease = json.loads(body or b"")
        assert (lease["apiVersion"], lease["kind"]) == ("coordination.k8s.io/v1", "Lease")
        assert isinstance(lease["metadata"], dict)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise No(400, "this is not a Lease") from None
    return dict(lease)


def _validate(lease: Lease) -> None:
    spec = lease.get("spec", {})
    for name in ("acquireTime", "renewTime"):
        if spec.get(name) is not None and not _MICRO.fullmatch(spec[name]):
            raise No(400, f'parsing time "{spec[name]}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse')
    for name, least in (("leaseDurationSeconds", 1), ("leaseTransitions", 0)):
        value = spec.get(name)
        if value is not None and type(value) is not int:
            raise No(400, f"json: cannot unmarshal {value!r} into Go struct field LeaseSpec.spec.{name} of type int32")
        if value is not None and value < least:
            raise No(422, f"spec.{name}: Invalid value: {value}: must be greater than {least - 1}")
    annotations = lease["metadata"].get("annotations") or {}
    if not all(isinstance(value, str) for value in annotations.values()):
        raise No(400, "json: cannot unmarshal into Go struct field ObjectMeta.metadata.annotations of type string")


@dataclass(frozen=True)
class Asked:
    """One request that was answered, or not (status 0). who: as its token says."""

    who: str
    method: str
    status: int
    body: Lease = field(default_factory=dict)


class Kube:
    """The server. faults: by who is asking, "" for everybody · asked: what it was asked so far."""

    def __init__(self, certificates: Certificates, folder: Path) -> None:
        self.store, self.port = Store(), free_port()
        self.faults: dict[str, Fault] = {}
        self.asked: Record[Asked] = Record("the API server's requests")
        self._tokens: dict[str, str] = {}
        self._folder, self._certificates = folder, certificates
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server.cert_file, certificates.server.key_file)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def environment(self) -> dict[str, str]:
        return {"KUBERNETES_SERVICE_HOST": HOST, "KUBERNETES_SERVICE_PORT": str(self.port)}

    def credentials(self, who: str) -> Path:
        """A folder with a token for this one and the CA; also again: then the old token is no good any more."""
        folder = self._folder / f"credentials-{who}"
        folder.mkdir(parents=True, exist_ok=True)
        self._tokens = {token: name for token, name in self._tokens.items() if name != who}
        token = f"token-of-{who}-{len(self.asked.items)}-{self.port}"
        self._tokens[token] = who
        (folder / "token").write_text(token + "\n")
        (folder / "ca.crt").write_bytes(self._certificates.ca_file.read_bytes())
        return folder

    def lease(self, name: str = "bridge") -> Lease | None:
        return self.store.leases.get(("iot", name))

    def holder(self, name: str = "bridge") -> str:
        lease = self.lease(name)
        return "" if lease is None else lease["spec"].get("holderIdentity") or ""

    async def until_asked(self, fits: Callable[[Asked], bool], timeout: float = PATIENCE_S, since: int = 0) -> Asked:
        return (await self.asked.wait(fits, timeout, 1, since))[0]

    @property
    def mark(self) -> int:
        return len(self.asked.items)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._client, HOST, self.port, ssl=self._context)

    async def stop(self) -> None:
        """Connections are refused, and those there are end."""
        if self._server is not None:
            self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, h11.RemoteProtocolError):
            pass
        except asyncio.CancelledError:  # by stop() alone
            pass
        finally:
            self._clients.discard(task)
            with contextlib.suppress(asyncio.CancelledError):
                await close(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            request, body = None, b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(65_536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return
            assert request is not None
            answer = await self._answer(request, body)
            if answer is None:
                return
            status, told = answer
            text = json.dumps(told).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
            writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
            writer.write(connection.send(h11.Data(data=text)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            connection.start_next_cycle()

    async def _answer(self, request: h11.Request, body: bytes) -> tuple[int, Lease] | None:
        """None: the connection ends without."""
        given = dict(request.headers.raw_items()).get(b"Authorization", b"").decode()
        who = self._tokens.get(given.removeprefix("Bearer "), "")
        method, fault = request.method.decode(), self.faults.get(who) or self.faults.get("")
        status, told = 0, Lease()
        if fault not in ("reset", "hang"):
            status, told = self._carried_out(who, method, request.target.decode(), body, fault)
        self.asked.append(Asked(who, method, 0 if fault == "deaf" else status, json.loads(body) if body else {}))
        if fault in ("hang", "deaf"):
            await asyncio.Event().wait()
        return None if fault == "reset" else (status, told)

    def _carried_out(self, who: str, method: str, path: str, body: bytes, fault: Fault | None) -> tuple[int, Lease]:
        try:
            if not who:
                raise No(401, "Unauthorized")
            if isinstance(fault, int):
                raise No(fault, "so it was wished")
            return self.store.carry_out(method, path, body)
        except No as no:
            return no.code, no.body

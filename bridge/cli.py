"""The command line. Each command imports its own rooms when it is called, so that none pays for another.

Exit codes: 0 ok · 1 runtime failure · 2 usage · 78 bad configuration (EX_CONFIG of sysexits.h).
"""

import argparse
import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from bridge import __version__
from bridge.errors import BadConfig, BridgeError
from bridge.options import Duration, LogOptions, MqttOptions, Secret

if TYPE_CHECKING:
    from bridge.config import Config
    from bridge.lease import LeaseOptions

OK, FAILED, USAGE, CONFIG = 0, 1, 2, 78
CONFIG_ENV = "WS2MQTT_CONFIG"


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    if os.getpid() == 1:  # alone in a container, where the kernel drops signals that nothing handles
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.act is None:
        parser.print_help()
        return USAGE
    return _act(args)


def _act(args: argparse.Namespace) -> int:
    """The command, and what is said of its failures."""
    try:
        code: int = args.act(args)
        sys.stdout.flush()  # here, where a reader that has gone is no error
        return code
    except BadConfig as bad:
        from bridge.config import describe

        print(describe(bad.problems, args.config), file=sys.stderr)
        return CONFIG
    except BridgeError as error:
        from bridge.watch.logs import escaped

        print(f"ws2mqtt: {escaped(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return OK if args.act is _simulate else FAILED  # Ctrl-C is how a simulator ends
    except BrokenPipeError:  # `ws2mqtt watch | head`
        _drop_output()
        return OK
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        print("ws2mqtt: cannot write: no space left on the device", file=sys.stderr)
        return FAILED


def _drop_output() -> None:
    """What is still to be written goes nowhere, so that the interpreter does not stumble over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(args: argparse.Namespace) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # it waits until somebody is there to hear it
    try:
        return _serve(args)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _serve(args: argparse.Namespace) -> int:
    from bridge.app import serve

    try:
        election = _election(args)
    except ValueError as error:
        print(f"ws2mqtt run: {error}", file=sys.stderr)
        return USAGE
    config = _load(args)
    return asyncio.run(serve(config, lambda: _load(args), election))


def _election(args: argparse.Namespace) -> "LeaseOptions | None":
    """What --lease and its companions say. Raises ValueError with the remedy."""
    from bridge.election import Timing
    from bridge.lease import CREDENTIALS, LeaseOptions, check, parse

    told = {name: getattr(args, f"lease_{name}") for name in ("credentials", "duration", "deadline", "retry")}
    given = {name: value for name, value in told.items() if value is not None}
    if args.lease is None:
        if given:
            raise ValueError(f"--lease-{next(iter(given))} needs --lease NAMESPACE/NAME")
        return None
    try:
        namespace, name = parse(args.lease)
    except ValueError as error:
        raise ValueError(f"--lease: {error}") from None
    credentials = given.pop("credentials", CREDENTIALS)
    timing = Timing(**given)
    check(timing)
    return LeaseOptions(namespace, name, credentials, timing)


def _check(args: argparse.Namespace) -> int:
    from bridge.config import in_one_line
    from bridge.config.findings import check
    from bridge.watch.logs import colour

    found = check(args.config, os.environ, colour=colour())
    if found.said:
        print(found.said, file=sys.stderr)
    if not found.good:
        return CONFIG
    print(in_one_line(f"{args.config}: ok; backends: {', '.join(found.backends) or 'none'}"))
    return OK


def _schema(args: argparse.Namespace) -> int:
    from bridge.config.schema import schema

    _print_json(schema())
    return OK


def _asyncapi(args: argparse.Namespace) -> int:
    from bridge.asyncapi import document

    _print_json(document(_load(args) if args.config is not None else None))
    return OK


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value)).decode())


def _load(args: argparse.Namespace) -> "Config":
    """The configuration, with the command line's log options over it."""
    from bridge.config import load

    config = load(args.config, os.environ)
    log = LogOptions(args.log_level or config.log.level, args.log_format or config.log.format)
    return msgspec.structs.replace(config, log=log)


def _simulate(args: argparse.Namespace) -> int:
    from bridge.simulators import SIMULATORS

    async def serve() -> None:
        async with SIMULATORS[args.platform].from_arguments(args) as simulator:
            print(f"{args.platform} simulator: {simulator.url}", flush=True)
            await simulator.serve_forever()

    try:
        asyncio.run(serve())
    except ValueError as error:
        print(f"ws2mqtt simulate: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        raise BridgeError(f"cannot listen: {error.strerror or error}") from None
    return OK


def _demo(args: argparse.Namespace) -> int:
    from bridge.demo import demo

    mqtt = MqttOptions() if args.mqtt_url is None else _mqtt_of(args.mqtt_url)
    mqtt = msgspec.structs.replace(mqtt, base_topic=args.base_topic)
    return asyncio.run(demo(mqtt, args.port if args.mqtt_url is None else None, args.seconds))


def _watch(args: argparse.Namespace) -> int:
    from bridge.viewer import until_told, watch

    return asyncio.run(until_told(watch(_broker(args), filter=args.filter, json_lines=args.json)))


def _send(args: argparse.Namespace) -> int:
    from bridge.send import send

    return asyncio.run(send(_broker(args), args.topic, args.body, timeout=args.timeout, json_lines=args.json))


def _broker(args: argparse.Namespace) -> MqttOptions:
    """The broker of a configuration file, or of --mqtt-url."""
    if args.config is not None and args.mqtt_url is None:
        return _load(args).mqtt
    options = MqttOptions() if args.mqtt_url is None else _mqtt_of(args.mqtt_url)
    return msgspec.structs.replace(options, base_topic=args.base_topic)


def _mqtt_of(url: str) -> MqttOptions:
    """mqtt://[user[:password]@]host[:port]; raises BridgeError."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    try:
        address = urlsplit(url)
        address.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise BridgeError("--mqtt-url: not a URL: write it like mqtt://host:1883") from None
    if address.scheme not in ("mqtt", "mqtts", "ws", "wss") or not address.hostname:
        raise BridgeError("--mqtt-url: write it like mqtt://host:1883 (or mqtts, ws, wss)")
    bare = urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))
    password = Secret(unquote(address.password)) if address.password else None
    return MqttOptions(url=(bare,), username=address.username and unquote(address.username), password=password)


def _healthcheck(args: argparse.Namespace) -> int:
    from http.client import HTTPException
    from urllib.request import ProxyHandler, build_opener

    from bridge.links.failures import why

    listen = _load(args).http.listen
    if listen is None:
        print("http.listen is off: nothing to ask", file=sys.stderr)
        return FAILED
    host, _, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(host, host)
    direct = build_opener(ProxyHandler({}))  # a proxy of the environment does not lead back to this machine
    try:
        with direct.open(f"http://{host}:{port}/livez", timeout=5) as answer:
            return OK if answer.status == 200 else FAILED
    except (OSError, HTTPException) as error:
        print(f"not live: {why(error, f'http://{host}:{port}')}", file=sys.stderr)
        return FAILED


def _duration(text: str) -> float:
    try:
        return Duration.parse(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise argparse.ArgumentTypeError("write it like 30s or 5m") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ws2mqtt", description="Bridge from WebSocket platforms to MQTT.")
    parser.add_argument("--version", action="version", version=f"ws2mqtt {__version__}")
    parser.set_defaults(act=None)
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, act: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(act=act)
        one.add_argument("--log-format", choices=("json", "text"))
        one.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
        return one

    for name, act, text in (
        ("run", _run, "Run the service."),
        ("check", _check, "Validate a configuration without connecting anywhere."),
        ("healthcheck", _healthcheck, "Ask the service of this configuration whether it is live."),
    ):
        one = command(name, act, text)
        default = os.environ.get(CONFIG_ENV)
        one.add_argument("-c", "--config", metavar="FILE", default=default, required=default is None)
        if name == "run":
            _lease_arguments(one)
    command("schema", _schema, "Print the JSON Schema of the configuration file, for editors.")
    _demo_arguments(command("demo", _demo, "See it work: broker, simulators, bridge and a live view."))
    _simulate_arguments(command("simulate", _simulate, "Run one platform's simulator as a server."))
    asyncapi = command("asyncapi", _asyncapi, "Print every topic and payload as an AsyncAPI 3 document.")
    asyncapi.add_argument("-c", "--config", metavar="FILE", help="of this configuration (of every platform)")
    watch = command("watch", _watch, "Show events as they come.")
    watch.add_argument("filter", nargs="?", metavar="FILTER", help="MQTT topic filter (everything of the bridge)")
    send = command("send", _send, "Publish a command and wait for its responses.")
    send.add_argument("topic", metavar="TOPIC", help="e.g. ws2mqtt/lora/command/reconnect")
    send.add_argument("body", nargs="?", default="{}", metavar="JSON", help="the command's fields")
    send.add_argument("--timeout", type=_duration, default=15.0, help="how long to wait for the final response (15s)")
    for one in (watch, send):
        one.add_argument("-c", "--config", metavar="FILE", default=os.environ.get(CONFIG_ENV))
        one.add_argument("--mqtt-url", metavar="URL", help="mqtt://user:password@host:1883")
        one.add_argument("--base-topic", default="ws2mqtt", help="where no configuration says it (ws2mqtt)")
        one.add_argument("--json", action="store_true", help="one JSON object per line")
    return parser


def _lease_arguments(run: argparse.ArgumentParser) -> None:
    told = "active and standby: be connected only while holding this Kubernetes Lease"
    lease = run.add_argument_group("several replicas")
    lease.add_argument("--lease", metavar="NAMESPACE/NAME", help=told)
    lease.add_argument("--lease-credentials", metavar="DIR", help="token and ca.crt (where a pod has them)")
    for name, text in (
        ("duration", "how long the others wait for a replica that is silent (15s)"),
        ("deadline", "how long the active one goes on without an answer of the API server (10s)"),
        ("retry", "about how often it renews (2s); the others look more often"),
    ):
        lease.add_argument(f"--lease-{name}", metavar="TIME", type=_duration, help=text)


def _demo_arguments(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--port", type=int, default=1883, help="of the embedded broker (1883)")
    demo.add_argument("--mqtt-url", metavar="URL", help="use this broker instead of the embedded one")
    demo.add_argument("--base-topic", default="ws2mqtt")
    demo.add_argument("--seconds", type=float, help="stop after so many seconds")


def _simulate_arguments(simulate: argparse.ArgumentParser) -> None:
    from bridge.simulators import SIMULATORS

    platforms = simulate.add_subparsers(metavar="PLATFORM", dest="platform", required=True)
    for name, simulator in SIMULATORS.items():
        simulator.add_arguments(platforms.add_parser(name, help=f"the {name} platform"))


if __name__ == "__main__":
    sys.exit(main())

"""The status page as people have it: a real browser looks at a real bridge, by eye, by keyboard and by screen reader.

WS2MQTT_PICTURES names a folder for screenshots, for those who want to look themselves.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from bridge.picture import BackendPicture, Latency, Picture, Recent, row
from bridge.simulators.resiot import ResiotSimulator
from bridge.simulators.resiot_options import ResiotSimOptions
from bridge.watch import web
from bridge.watch.page import page as document
from tests.support import PATIENCE_S
from tests.support.browser import Browser, browser
from tests.support.house import FAST, TOKEN, House, house, up, ups
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_chromium = pytest.mark.browser

PASSWORD = "s3cret-passw0rd"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform() -> AsyncIterator[AsyncExitStack]:
    """What closes the simulator when it is closed."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(
    mosquitto: Mosquitto, platform: AsyncExitStack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("page")
    simulator = await platform.enter_async_context(ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN)))
    more: dict[str, dict[str, Any]] = {
        "lora": {"type": "resiot", "url": simulator.url, "reconnect": FAST},
        "hq": {"type": "smartserver", "url": "https://127.0.0.1:1", "username": "u", "password": PASSWORD},
        "quiet": {"type": "resiot", "url": f"ws://127.0.0.1:1/?token={TOKEN}", "enabled": False},
    }
    async with house(mosquitto, folder, folder.name, platforms=(), backends=more) as made:
        made.platforms["lora"] = simulator
        await made.online()
        await made.bridge.wait_http("/readyz")
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(home: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """It is open all the time, and never complains."""
    async with browser(tmp_path_factory.mktemp("chromium")) as made:
        await made.look(width=1280, height=900)
        await made.go(home.bridge.http_url)
        await made.until("document.getElementById('live').textContent === 'live'")
        yield made
        assert made.complaints == []


def cell(backend: str, column: int, table: str = "backends") -> str:
    """JavaScript of what a cell says."""
    return f"document.querySelector('#{table} tr[data-backend={backend}] td:nth-of-type({column})').innerText"


def state_is(backend: str, state: str) -> str:
    return f"document.querySelector('#backends tr[data-backend={backend}] .badge').textContent === '{state}'"


EVENTS = "[...document.querySelectorAll('#events tbody tr')].map(one => one.innerText.replace(/\\s+/g, ' '))"


# Without a browser


async def test_the_page_is_whole_and_may_do_nothing_else(home: House) -> None:
    answer = await home.bridge.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert re.search(r"script-src 'sha256-[^ ]+';", policy)
    outside = re.findall(r"""(?:src|href)=["']([^"']+)""", answer.text)
    assert set(outside) == {"data:,", "/metrics", "/readyz", "/livez"}
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert len(answer.content) < 40_000


async def test_without_javascript_the_backends_are_there(home: House) -> None:
    text = (await home.bridge.get("/")).text
    for backend in ("lora", "hq", "quiet"):
        assert re.search(rf"<tr [^>]*><th [^>]*>{backend}<small>", text)
    assert 'data-state="online">online</span>' in text
    assert '<noscript><meta http-equiv="refresh"' in text


async def test_events_tells_pictures_and_no_secret(home: House) -> None:
    await home.say(up(1))
    await home.until_uplinks(1)
    url = f"{home.bridge.http_url}/events"
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-length" not in answer.headers
        told = ""
        async with asyncio.timeout(PATIENCE_S):
            async for chunk in answer.aiter_text():
                told += chunk
                if told.count("\n\n") >= 2:
                    break
    assert told.startswith('event: picture\ndata: {"time":')
    assert '"type":"up","subject":"application/70b3' in told
    assert "payload" not in told, "of an event no more than when, what and of what"
    for secret in (TOKEN, PASSWORD):
        assert secret not in told


async def test_pages_that_were_closed_make_room(home: House) -> None:
    """More than are allowed at once, one after the other; then too many at once."""
    url, limits = f"{home.bridge.http_url}/events", httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as client:
        open_ = [await client.send(client.build_request("GET", url), stream=True) for _ in range(30)]
        codes = [one.status_code for one in open_]
        assert (codes[0], codes[-1]) == (200, 503)
        for one in open_:
            await one.aclose()
        async with asyncio.timeout(PATIENCE_S):
            while (await client.head(url)).status_code == 503:
                await asyncio.sleep(0.1)


# With one


@needs_chromium
async def test_what_it_shows(home: House, page: Browser) -> None:
    await page.until(state_is("lora", "online"))
    await page.until(state_is("quiet", "disabled"))
    await page.until("document.querySelector('#backends tr[data-backend=hq] .badge').dataset.state !== 'online'")
    assert await page.until(f"{cell('hq', 1)}.includes('127.0.0.1') || {cell('hq', 7)}.startsWith('in ')")
    assert await page.ask("document.getElementById('ready').textContent") == "ready"
    assert home.base in await page.ask("document.getElementById('about').textContent")


@needs_chromium
async def test_rate_latency_and_ledger_move(home: House, page: Browser) -> None:
    await home.say(*ups(300))
    await page.until(f"{cell('lora', 1, 'ledger')}.replace(',', '') >= 300")
    assert await page.until(f"parseFloat({cell('lora', 2)}) > 1")
    await page.until(f"/(µs|ms|s)/.test({cell('lora', 3)}) && /95 %/.test({cell('lora', 3)})")
    await page.until(f"{cell('lora', 6, 'ledger')} === 'balanced' && {cell('lora', 5, 'ledger')} === '0'")
    await page.until(f"/ago/.test({cell('lora', 5)})")
    assert len(await page.ask(EVENTS)) == 50


@needs_chromium
async def test_the_filter_by_keyboard(home: House, page: Browser) -> None:
    await home.say('{"CommType":"comm_weather"}')
    await page.key("/", "/")
    assert await page.ask("document.activeElement.id") == "filter"
    await page.write("LORA unkn")
    await page.until(f"{EVENTS}.length === 1")
    assert "unknown" in (await page.ask(EVENTS))[0]
    await page.key("Escape")
    await page.until(f"{EVENTS}.length === 50")
    await page.key("Tab")
    assert await page.ask("document.activeElement.id") == "pause"
    await page.key("Enter", "\r")
    assert await page.ask("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    first = (await page.ask(EVENTS))[0]
    received = int((await page.ask(cell("lora", 1, "ledger"))).splitlines()[0].replace(",", ""))
    await home.say(up(7))
    await page.until(f"{cell('lora', 1, 'ledger')}.replace(',', '').split('\\n')[0] > {received}")
    assert (await page.ask(EVENTS))[0] == first
    await page.key("Enter", "\r")
    await page.until(f"{EVENTS}[0].includes(' up ')")


@needs_chromium
async def test_what_a_screen_reader_finds(page: Browser) -> None:
    spoken = await page.spoken()
    for wanted in (
        ("heading", "Backends"),
        ("heading", "Ledger"),
        ("heading", "Last events"),
        ("rowheader", "lora resiot"),
        ("columnheader", "State"),
        ("searchbox", "Filter"),
        ("button", "Pause"),
    ):
        assert any(role == wanted[0] and name.startswith(wanted[1]) for role, name in spoken), (wanted, spoken[:80])
    assert [role for role, _ in spoken].count("table") == 3
    assert "main" in [role for role, _ in spoken]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read(page: Browser, scheme: Any) -> None:
    """Text against its ground by WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    await page.look(width=1280, height=900, scheme=scheme)
    poor = await page.ask(
        """(() => {
          const parts = (text) => text.match(/[\\d.]+/g).map(Number);
          const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
          const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
          const ground = (node) => { for (; node; node = node.parentElement) {
            const found = parts(getComputedStyle(node).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found; } return [255, 255, 255]; };
          const found = [];
          for (const node of document.querySelectorAll('body *')) {
            const told = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
            if (!told || node.closest('script, style, noscript, .unseen')) continue;
            const [a, b] = [light(parts(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
            if ((a + 0.05) / (b + 0.05) < 4.5) found.push(node.textContent);
          }
          return found;
        })()"""
    )
    assert poor == []
    await _shoot(page, scheme)


@needs_chromium
async def test_on_a_phone(page: Browser) -> None:
    await page.look(width=360, height=740)
    assert await page.ask("document.documentElement.scrollWidth") <= 360, "nothing to push sideways"
    shown = await page.ask(cell("lora", 1))
    assert "online" in shown
    await page.ask("scrollTo(0, 0)")
    label = "getComputedStyle(document.querySelector('#backends tbody td'), '::before').content"
    assert "State" in await page.ask(label)
    await _shoot(page, "phone")
    await page.ask("document.getElementById('events-title').scrollIntoView()")
    await _shoot(page, "phone-events")
    await page.look(width=1280, height=900)


@needs_chromium
async def test_the_platform_goes_away_and_comes_back(home: House, platform: AsyncExitStack, page: Browser) -> None:
    port = home.platforms["lora"].port
    await platform.aclose()
    await page.until("document.querySelector('#backends tr[data-backend=lora] .badge').textContent !== 'online'")
    assert await page.until("document.title.startsWith('(')"), "one sees it from another tab"
    await page.until("/lora is (offline|connecting)/.test(document.getElementById('news').textContent)")
    await page.until(f"/in |now/.test({cell('lora', 7)})")
    await _shoot(page, "away")
    async with ResiotSimulator(ResiotSimOptions(rate=0, token=TOKEN, port=port)):
        await page.until(state_is("lora", "online"))
        await page.until("document.getElementById('news').textContent.includes('lora is online')")
        await page.until(f"/closed|failed|lost/.test({cell('lora', 6)}) && /backfill: none/.test({cell('lora', 6)})")
        await page.until(f"{EVENTS}.some((one) => one.includes(' gap '))")


@needs_chromium
async def test_the_bridge_goes_away_and_comes_back(home: House, page: Browser) -> None:
    await home.bridge.kill()
    await page.until("document.body.classList.contains('stale')")
    assert "no answer" in await page.ask("document.getElementById('live').textContent")
    dim = "Number(getComputedStyle(document.getElementById('bridge')).opacity) < 1"
    assert await page.ask(dim), "ready, broker connected: of a bridge that does not answer"
    await home.bridge.start()
    await page.until("document.getElementById('live').textContent === 'live'")
    assert all("Failed to load resource" in one for one in page.complaints), "the browser's own words"
    page.complaints.clear()


async def _shoot(page: Browser, name: str) -> None:
    if folder := os.environ.get("WS2MQTT_PICTURES"):
        await page.picture(Path(folder) / f"{name}.png")


# Of pictures that a real bridge is seldom in


def _backend(name: str, state: Any = "online", error: str | None = None) -> BackendPicture:
    latency = Latency(0, 0.0, (0.01, 0.1), [0, 0, 0])
    return BackendPicture(
        name=name, type="smartserver", state=state, since="2024-03-05T07:16:30.000000Z", attempt=0, next_retry=None,
        error=error, last_event=None, mqtt=True, received=0, recovered=0, published=0, dropped={}, waiting=0, bytes=0,
        oldest=None, ignored=0, replayed=0, unread=0, gaps=0, gap_seconds=0.0, gap=None, latency=latency,
    )  # fmt: skip


@asynccontextmanager
async def _shown(
    folder: Path, *backends: BackendPicture, lease: str | None = None, recent: Sequence[Recent] = ()
) -> AsyncIterator[Browser]:
    """The page of a picture, told by our own server to a browser."""
    picture = Picture(
        "1.2.3", "host", "1709622990101", "ws2mqtt", lease is None, True, False, [], lease, list(backends)
    )

    async def told() -> AsyncGenerator[bytes, None]:
        shown = {"time": "2024-03-05T07:17:00.000000Z", "picture": picture}
        yield b"event: picture\ndata: %b\n\n" % msgspec.json.encode(shown)
        yield b"event: recent\ndata: %b\n\n" % msgspec.json.encode(recent)
        while True:
            yield b"event: beat\ndata: 1\n\n"
            await asyncio.sleep(1)

    routes: web.Routes = {
        "/": lambda: document(map(row, backends), lease or ""),
        "/events": lambda: web.Stream("text/event-stream", told()),
    }
    async with web.serve("127.0.0.1:0", routes) as port, browser(folder) as made:
        await made.look(width=1280, height=900)
        await made.go(f"http://127.0.0.1:{port}")
        await made.until("document.getElementById('live').textContent === 'live'")
        yield made
        assert made.complaints == []


@needs_chromium
async def test_a_standby_says_that_it_is_one(tmp_path: Path) -> None:
    lease = "standby: host-2_ab12 holds the lease prod/ws2mqtt"
    async with _shown(tmp_path, lease=lease) as page:
        assert await page.ask("document.getElementById('lease').textContent") == lease
        await page.until("document.getElementById('ready').textContent === 'standby'")
        assert "broker" not in await page.ask("document.getElementById('about').textContent")
        assert "connected nowhere" in await page.ask("document.getElementById('none').textContent")
        assert await page.ask("document.getElementById('backends').hidden")
        await _shoot(page, "standby")


# Words of the first table that are broken in two lines.
_BROKEN = """[...document.querySelectorAll('#backends td *, #backends th *')].flatMap((node) => [...node.childNodes])
    .filter((node) => {
        if (node.nodeType !== 3 || !/^\\w{1,16}$/.test(node.textContent)) return false;
        const range = document.createRange();
        range.selectNodeContents(node);
        return range.getClientRects().length > 1;
    }).map((node) => node.textContent)"""


@needs_chromium
async def test_fifty_backends_long_words_and_other_scripts(tmp_path: Path) -> None:
    error = "the platform said: " + "x" * 300
    backends = [_backend(f"backend-{number:02}") for number in range(48)]
    backends += [_backend("a" * 32, "offline", error), _backend("wrong", "auth_failed", "<b>401</b>")]
    subjects = ["שלום/מרחבא", "😀/温度", "y" * 400, "<img src=x>"]
    recent = [Recent("2024-03-05T07:16:59.000000Z", "backend-01", "up", subject, False) for subject in subjects]
    async with _shown(tmp_path, *backends, recent=recent) as page:
        wanted = "48 online, 1 offline, 1 auth failed"
        assert await page.until(f"document.getElementById('sum').textContent === '{wanted}'")
        assert await page.ask("document.title") == "(2) ws2mqtt"
        assert await page.ask("document.querySelectorAll('#backends tbody tr').length") == 50
        assert "<b>401</b>" in await page.ask(cell("wrong", 1))
        assert "<img src=x>" in " ".join(await page.ask(EVENTS))
        for width in (1280, 1000, 768, 390, 320):
            await page.look(width=width, height=900)
            assert await page.ask("document.documentElement.scrollWidth") <= width, "nothing to push sideways"
            assert await page.ask(_BROKEN) == [], "short words stay whole"
            await _shoot(page, f"fifty-{width}")
        isolated = "getComputedStyle(document.querySelector('#events td:last-child span')).unicodeBidi"
        assert await page.ask(isolated) == "isolate", (
            "what is written from right to left does not turn what is around it"
        )

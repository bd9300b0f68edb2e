"""The page in a real browser: Chromium, driven by playwright. Skipped where either is missing."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import rtsp
from support.places import AXE
from support.serving import KEYS, Running, keys_file, running

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

expect = sync_api.expect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *FAKE_CAMERA])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with running(demo=True, media_networks=["127.0.0.0/8"], limits={"camera_seconds": 1}) as server:
        yield server


@pytest.fixture
def page(browser, demo: Running) -> Iterator:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(demo.url)
    yield opened
    opened.close()
    # Refused, gone or out of reach: the page tells it in words.
    refused = re.compile(r"the server responded with a status of 4[01]\d|net::ERR_FAILED")
    assert not [each for each in said if not refused.search(each)]


def serious(page) -> list[str]:
    """What axe finds that is serious, where axe is there."""
    if not AXE.exists():
        pytest.skip("needs axe-core: npm install --no-save axe-core")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def test_a_picture_within_two_seconds_and_an_answer_with_the_moments_it_rests_on(page) -> None:
    def took() -> float:
        begun = time.monotonic()
        page.reload()
        page.wait_for_selector("#veil", state="hidden")
        return time.monotonic() - begun

    assert any(took() < 2 for _ in range(3)), "three times in a row it took longer, so nothing else was in the way"
    expect(page.locator("#suggested button").first).to_have_text("Is there a shape now?")
    page.get_by_role("button", name="Is there a shape now?").click()
    answer = page.locator(".turn .a")
    page.wait_for_selector(".mark-right, .mark-wrong")
    assert answer.inner_text().split()[0] in ("yes", "no")
    assert "asked on" in page.locator(".turn .meta").inner_text()
    moment = page.locator(".evidence button").first
    assert "%" in moment.inner_text()
    assert not serious(page)
    moment.click()
    expect(page.locator("#when")).to_contain_text("tokens held")
    page.get_by_role("button", name="Back to live").click()
    expect(page.locator("#when")).not_to_contain_text("tokens held")
    page.get_by_label("About now only").check()
    page.get_by_role("button", name="Is there a shape now?").click()
    expect(page.locator(".turn .meta").last).to_contain_text("about the last 2 s")


def test_what_is_held_is_chosen_by_keyboard(page) -> None:
    expect(page.locator("#memory-hint")).to_contain_text("moments from")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("#when")).to_contain_text("0:00")
    assert slider.get_attribute("aria-valuetext") == "0:00"
    page.keyboard.press("Escape")
    assert slider.get_attribute("aria-valuetext") == "live"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tab-ask"
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-watch").is_visible()


def test_a_standing_question_fires(page, demo: Running) -> None:
    page.get_by_role("button", name="Add").click()
    page.get_by_label("Address").fill("demo://still?seed=10001&speed=8&minutes=1")
    page.get_by_label("Name").fill("quick")
    page.locator("#add-dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#stage-title")).to_contain_text("quick")
    page.get_by_role("tab", name="Watch for").click()
    expect(page.get_by_label("Tell me when the answer to")).to_have_value("Is there a shape now?")
    page.locator("#watch-every").fill("0.5")
    page.get_by_role("button", name="Watch for it").click()
    expect(page.locator("#watches li small")).to_contain_text("about the last 2 s")
    page.wait_for_selector("#events li:not(.empty) img[src]", timeout=20_000)
    page.get_by_role("button", name="Stop asking").click()
    page.wait_for_selector("#watches .empty")
    page.get_by_placeholder("Search").fill("nothing of this kind")
    page.wait_for_selector("#events .empty")
    demo.as_(None).delete("/v1/streams/quick")
    expect(page.locator("#stage-title")).to_contain_text("demo")


def test_what_cannot_be_is_said_in_words(page) -> None:
    page.get_by_role("button", name="Add").click()
    page.get_by_label("Address").fill("webcam://0")
    with page.expect_response(lambda reply: reply.request.method == "POST") as refused:
        page.locator("#add-dialog").get_by_role("button", name="Add", exact=True).click()
    assert refused.value.status == 400
    page.wait_for_selector("#add-error:not([hidden])")
    assert "--local-cameras" in page.locator("#add-error").inner_text()
    page.get_by_role("button", name="Cancel").click()


def test_narrow_and_dark_nothing_is_cut_off_and_axe_finds_nothing_serious(page) -> None:
    page.wait_for_selector("#veil", state="hidden")
    for scheme, width in (("light", 1280), ("dark", 320)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for tab in ("Ask", "Watch for"):
            page.get_by_role("tab", name=tab).click()
            assert not serious(page), (scheme, width, tab)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_server_that_is_gone_is_told_and_so_is_its_return(page) -> None:
    page.wait_for_selector("#veil", state="hidden")
    page.route("**/v1/**", lambda route: route.abort())
    expect(page.locator("#notice")).to_contain_text("The server cannot be reached.")
    for state in ("#stage-state", "#cameras small >> nth=0"):
        expect(page.locator(state)).to_have_text("no connection")
    page.unroute("**/v1/**")
    expect(page.locator("#stage-state")).to_contain_text("lag")
    expect(page.locator("#notice")).to_be_hidden()


def test_an_answer_that_breaks_off_says_so_and_is_read_in_its_own_direction(page) -> None:
    page.wait_for_selector("#veil", state="hidden")
    piece = 'event: delta\ndata: {"text": "نعم، رجل عند الباب."}\n\n'
    page.route("**/ask", lambda route: route.fulfill(body=piece, content_type="text/event-stream"))
    page.locator("#question").fill("هل يوجد شخص عند الباب؟")
    page.keyboard.press("Enter")
    expect(page.locator(".turn .meta")).to_have_text("The server ended the answer before it was complete.")
    expect(page.locator(".turn .a")).to_have_text("نعم، رجل عند الباب.")
    for part in (".turn .q", ".turn .a"):
        assert page.locator(part).evaluate("each => getComputedStyle(each).direction") == "rtl"


def test_a_question_is_asked_as_soon_as_the_picture_is_there(page, demo: Running) -> None:
    page.goto("about:blank")
    lists: list = []

    def first_alone(route) -> None:
        lists.append(route)
        if len(lists) == 1:
            route.continue_()

    page.route("**/v1/streams", first_alone)  # what comes after the choice of a stream is slow
    page.goto(demo.url)
    page.wait_for_selector("#veil", state="hidden")
    page.locator("#question").fill("Is there a shape now?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mark-right, .mark-wrong")
    page.unroute("**/v1/streams")


def test_of_many_streams_those_in_sight_have_pictures_and_the_page_is_no_longer(page, demo: Running) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url) if "side=320" in request.url else None)
    found = demo.as_(None).get("/v1/streams").json()
    found["data"] += [found["data"][0] | {"id": f"camera-{number}"} for number in range(60)]
    page.route("**/v1/streams", lambda route: route.fulfill(json=found))
    expect(page.locator(".camera")).to_have_count(len(found["data"]))
    assert page.evaluate("document.documentElement.scrollHeight") <= 900
    with page.expect_request("**/camera-59/picture?side=320"):
        page.get_by_role("button", name="camera-59").scroll_into_view_if_needed()
    assert len(asked) < 15


def test_a_time_of_another_day_says_which(page) -> None:
    stream = "{source: {camera: {speed: 1, demo: false, begun: new Date(2026, 0, 1).toISOString()}}}"
    shown = page.evaluate(
        f"import('/page/dom.js').then(({{ span }}) => [[0, 90], [0, 90000]].map(([a, b]) => span(a, b, {stream})))"
    )
    assert [each.count("Jan") for each in shown] == [1, 2]
    assert "00:00:00 to 00:01:30" in shown[0]


def test_a_turn_is_remembered_and_a_fork_has_the_same_past(page) -> None:
    page.wait_for_selector("#veil", state="hidden")
    page.get_by_label("Remember this turn").check()
    page.locator("#question").fill("How many shapes have appeared so far?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".meta:has-text('remembered')")
    expect(page.locator("#memory-state")).to_contain_text("1 remembered turn")
    page.get_by_role("button", name="Fork").click()
    expect(page.locator("#stage-title")).to_contain_text("stream-")
    expect(page.locator("#memory-state")).to_contain_text("1 remembered turn")
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Close it").click()
    expect(page.locator("#stage-title")).to_have_text("demo")
    expect(page.locator("#notice")).to_be_hidden()


def test_a_key_is_refused_and_accepted_and_entered_once_for_the_devices_camera_too(browser, tmp_path: Path) -> None:
    with running(api_keys=keys_file(tmp_path), demo=True) as server:
        page = browser.new_context().new_page()
        page.goto(f"{server.url}/#100%")  # which is no name of a stream, nor of anything
        expect(page.locator("#key-value")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#notice")).to_contain_text("press Key to give one")
        page.get_by_role("button", name="Key").click()
        for key, told in (("wrong", "does not know this key"), (KEYS["alice"], "")):
            page.locator("#key-value").fill(key)
            page.get_by_role("button", name="Use it").click()
            if told:
                expect(page.locator("#key-why")).to_contain_text(told)
        page.wait_for_selector("#veil", state="hidden")
        page.reload()
        page.wait_for_selector("#veil", state="hidden")
        assert not page.locator("#key-dialog").is_visible()
        page.get_by_role("button", name="Add").click()
        page.get_by_label("Name").fill("mine")
        page.get_by_role("button", name="Use this device's camera").click()
        expect(page.locator("#stage-title")).to_contain_text("mine")
        expect(page.locator("#veil")).to_be_hidden()
        state = server.as_("alice").get("/v1/streams/mine").json()
        assert state["last_frame_at"] is not None
        page.context.close()


@pytest.mark.slow
@pytest.mark.skipif(bool(rtsp.missing()), reason=rtsp.missing())
def test_a_camera_is_killed_and_comes_back(page, demo: Running) -> None:
    with rtsp.RtspServer() as camera:
        assert demo.as_(None).post("/v1/streams", json={"id": "door", "source": camera.address}).status_code == 201
        page.get_by_role("button", name="door").click()
        expect(page.locator("#stage-state")).to_contain_text("live", timeout=10_000)
        expect(page.locator("#veil")).to_be_hidden(timeout=10_000)
        camera.kill()
        expect(page.locator("#veil")).to_contain_text("No picture since", timeout=10_000)
        assert "s3cret" not in page.content()
        camera.start()
        expect(page.locator("#veil")).to_be_hidden(timeout=15_000)
        expect(page.locator("#stage-state")).to_contain_text("live")
        gaps = demo.as_(None).get("/v1/streams/door").json()["source"]["camera"]["gaps"]
        assert gaps[-1]["text"].startswith("no picture from")
    demo.as_(None).delete("/v1/streams/door")

"""Takes the pictures of the page that the documentation shows, with a real server and browser: docs/pictures/page*.png.

python perf/page.py [--folder docs/pictures]
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.serving import Running, running

STREAMS = {
    "front-door": "demo://still?seed=10001&minutes=2&cast=varied&speed=3",
    "yard": "demo://moving?seed=10002&minutes=2&cast=varied&speed=3",
    "hall": "demo://cuts?seed=10003&minutes=2&cast=varied&speed=3",
}
SECONDS = 95.0  # of the world that are watched before anything is asked


def prepare(server: Running) -> None:
    """Opens streams and standing questions, and waits until something happened."""
    client = server.as_(None)
    for name, source in STREAMS.items():
        client.post("/v1/streams", json={"id": name, "source": source})
        client.post(f"/v1/streams/{name}/watches", json={"question": "Is there a shape now?", "every_s": 1})
    while client.get("/v1/streams/front-door").json()["time"] < SECONDS:
        time.sleep(0.2)


def ask(page: Page, count: int) -> None:
    """Asks what is suggested about the past."""
    for number in range(count):
        page.locator("#suggested button").filter(has_not_text="now").nth(number).click()
        page.wait_for_selector(f".turn:nth-child({number + 1}) :is(.mark-right, .mark-wrong)")
    time.sleep(1.0)


def main() -> None:
    """Takes them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("docs/pictures"), help="where the pictures go")
    folder: Path = parser.parse_args().folder
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with running() as server, sync_playwright() as play:
        prepare(server)
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1360, "height": 880}, device_scale_factor=1.5)
        page.goto(f"{server.url}/#front-door")
        page.wait_for_selector("#suggested button")
        ask(page, 2)
        page.locator(".evidence button").first.click()
        time.sleep(1.2)
        page.screenshot(path=folder / "page.png")
        page.get_by_role("tab", name="Watch for").click()
        page.emulate_media(color_scheme="dark")
        time.sleep(1.2)
        page.screenshot(path=folder / "page-dark.png")
        page.set_viewport_size({"width": 360, "height": 780})
        page.get_by_role("tab", name="Ask").click()
        time.sleep(1.2)
        page.screenshot(path=folder / "page-narrow.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()

"""Pages as a browser and a screen reader find them."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest

HISTORY = [
    {"step": step, "loss": 3 / step, "learning_rate": 0.01 * (1 - step / 60)}
    for step in range(10, 60, 10)
] + [{"step": 30, "val_miou": 0.2}, {"step": 50, "val_miou": 0.4}]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--virtual-time-budget=4000",
]


# Elements without an end tag.
SINGLE = {"meta", "link"}


class Page(html.parser.HTMLParser):
    """The tags of a page as (name, attributes), checked to nest."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in SINGLE:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def find(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.tags
            if name == tag and attributes.items() <= found.items()
        ]


def require_accessible(page: Page) -> None:
    """Check what a screen reader and a keyboard need."""
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.find("a"):
        assert link["href"].removeprefix("#") in ids
    for _, attributes in page.tags:
        if attributes.get("role") in ("img", "region", "group"):
            assert attributes["aria-label"]
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
    assert all("scope" in heading for heading in page.find("th"))
    assert len(page.find("h1")) == 1
    assert page.find("html", lang="en")


def require_self_contained(text: str) -> None:
    assert "default-src 'none'" in text
    bare = re.sub(r"url\(data:image/(png|jpeg);base64,[\w+/=]+\)", "", text)
    assert not re.search(r"https?:|url\(|@import|\ssrc=|<iframe|fetch", bare)


def in_chromium(path, script: str) -> dict:
    """Open the page, run a script that returns an object, and return it with the errors met."""
    if CHROMIUM is None:
        pytest.skip("the page is tried in Chromium, which is not installed")
    watch = """<script>window.met = [];
    addEventListener("error", (event) => met.push(event.message));
    addEventListener("securitypolicyviolation", (event) => met.push(event.blockedURI));</script>"""
    run = f"""<script>addEventListener("load", () => {{
    const found = (() => {{ {script} }})();
    document.title = JSON.stringify({{ ...found, errors: met }});
    }});</script>"""
    page = path.read_text().replace("<head>", "<head>" + watch).replace("</body>", run + "</body>")
    tried = path.with_name("tried.html")
    tried.write_text(page)
    profile = f"--user-data-dir={path.parent / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *FLAGS, profile, "--dump-dom", tried.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(\{.*\})</title>", done.stdout)
    assert title, done.stdout[:500]
    return json.loads(html.unescape(title[1]))

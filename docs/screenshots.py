"""Make the pictures of docs/dashboard.md from a running daemon: ``python docs/screenshots.py`` (needs Chromium and the test tools)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

FOLDER = ROOT / "docs" / "pictures"
PICTURES = (
    ("overview", "/", "approver", "light", 1280),
    ("overview-dark", "/", "approver", "dark", 1280),
    ("overview-narrow", "/", "approver", "light", 320),
    ("graph", "/graph", "viewer", "light", 1280),
    ("resource", "/resources/EventSource/default/payments", "operator", "light", 1280),
    ("plan", "/plan", "approver", "light", 1280),
    ("executions", "/executions", "operator", "dark", 1280),
    ("notifications", "/notifications", "viewer", "dark", 1280),
    ("reviews", "/reviews", "viewer", "light", 1280),
)
"""Name, page, role of the person, theme, width in pixels."""


def main(folder: Path = FOLDER) -> int:
    """Write the pictures."""
    from tests.dashboard.browsing import chromium, visiting
    from tests.dashboard.scene import Scene

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reconciler-pictures-") as name, chromium() as browser:
        scene = Scene(Path(name))
        try:
            scene.play()
            for picture, place, role, theme, width in PICTURES:
                size = {"width": width, "height": 820 if width > 700 else 760}
                with visiting(browser, scene, role, color_scheme=theme, viewport=size) as page:
                    page.goto(place)
                    page.screenshot(path=folder / f"{picture}.png")
                    print(f"{folder.name}/{picture}.png")
        finally:
            scene.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))

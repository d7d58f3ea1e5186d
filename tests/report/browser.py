"""Uses a report of scgpt-report in a headless Chromium: opens each tab, sorts a table, colors cells, downloads figures and tables.
Fails on console errors, network requests, reports that take two seconds to open, and reports that are empty without scripts.

browser.py CHROMIUM REPORT [DIRECTORY]: screenshots go to DIRECTORY."""

import pathlib
import re
import sys
import tempfile

from playwright.sync_api import sync_playwright

TABS = ["overview", "expression", "attention", "comparison", "runs"]
SLOWEST = 2000  # milliseconds


def watched(context, faults):
    page = context.new_page()
    page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("request", lambda request: None if re.match("(file|data|blob):", request.url) else faults.append(f"request: {request.url}"))
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    return page


def downloaded(page, button):
    with page.expect_download() as download:
        button.click()
    return pathlib.Path(download.value.path()).read_bytes()


def shown_tabs(page):
    for tab in TABS:
        page.click(f'nav a[href="#{tab}"]')
        shown = [name for name in TABS if page.locator(f"section#{name}").is_visible()]
        assert shown == [tab], f"a click on {tab} shows {shown}"
        yield tab


def sort_a_table(page):
    page.click('nav a[href="#runs"]')
    table = page.locator("section#runs table").last
    heading = table.locator("th").first
    before = table.locator("tbody tr").all_inner_texts()
    heading.click()
    heading.click()
    assert heading.get_attribute("aria-sort") == "descending"
    after = table.locator("tbody tr").all_inner_texts()
    assert sorted(before) == sorted(after) and (len(before) < 2 or before != after or len(set(before)) == 1), after


def recolor(page):
    menu = page.locator("section#overview select").first
    image = page.locator("section#overview .plane image").first
    if menu.count() == 0:
        return
    images = set()
    for value in menu.locator("option").evaluate_all("options => options.map(option => option.value)"):
        menu.select_option(value)
        images.add(image.get_attribute("href"))
    assert len(images) == menu.locator("option").count(), "every column colors the cells"
    box = page.locator(".plane").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def download(page):
    for tab in TABS[:4]:
        page.click(f'nav a[href="#{tab}"]')
        figure = page.locator(f"section#{tab} figure").first
        if figure.count():
            svg = downloaded(page, figure.get_by_role("button", name="SVG"))
            assert svg.startswith(b"<svg") and b"xmlns=" in svg, svg[:80]
            assert downloaded(page, figure.get_by_role("button", name="PNG")).startswith(b"\x89PNG")
    page.click('nav a[href="#runs"]')
    table = downloaded(page, page.locator("section#runs .table").last.get_by_role("button", name="TSV")).decode()
    assert "\t" in table.splitlines()[0], table[:200]


def without_scripts(browser, text, faults):
    """As after a sanitizer: no scripts, no styles, all tabs one below another."""
    stripped = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.S)
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as file:
        file.write(stripped)
        file.flush()
        context = browser.new_context(java_script_enabled=False)
        page = watched(context, faults)
        page.goto(f"file://{file.name}")
        for tab in TABS:
            assert page.locator(f"section#{tab} h2").is_visible(), f"{tab} is not visible without scripts"
        assert page.locator("button").count() == 0, "buttons without function"
        images = page.locator("svg[role=img]:visible")
        assert images.count() == stripped.count('role="img"') - page.locator("details:not([open]) svg[role=img]").count()
        context.close()


def main(chromium, page_path, directory=None):
    path = pathlib.Path(page_path).resolve()
    text, faults = path.read_text(encoding="utf-8"), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for theme in ["light", "dark"]:
            context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
            page = watched(context, faults)
            page.goto(path.as_uri())
            took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            print(f"opened in {took:.0f} ms, {len(text.encode()) / 1e6:.2f} MB")
            assert took < SLOWEST, f"opening took {took:.0f} ms"
            for tab in shown_tabs(page):
                if directory:
                    page.screenshot(path=f"{directory}/{tab}_{theme}.png", full_page=True)
            sort_a_table(page)
            page.click('nav a[href="#overview"]')
            recolor(page)
            download(page)
            context.close()
        without_scripts(browser, text, faults)
        browser.close()
    assert not faults, "\n".join(faults)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Fails if a report is not valid HTML: strict parsing, unique ids, and no broken internal links."""

import sys

import html5lib

parser = html5lib.HTMLParser(strict=False, namespaceHTMLElements=False)
with open(sys.argv[1], "rb") as file:
    document = parser.parse(file, transport_encoding="utf-8")
errors = [f"{place}: {code} {details}" for place, code, details in parser.errors]
ids = [element.get("id") for element in document.iter() if element.get("id")]
errors += [f"id {id} occurs {ids.count(id)} times" for id in set(ids) if ids.count(id) > 1]
links = [element.get("href") for element in document.iter() if str(element.get("href") or "").startswith("#")]
errors += [f"{link} has no target" for link in links if link[1:] not in ids]
sys.exit("\n".join(errors) or 0)

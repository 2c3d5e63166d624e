"""The page as people meet it: `lift serve` as a process, an index that it opened from disk."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from browser import chromium
from lift.search.index import Index
from made_model import made
from serving.in_memory import items
from serving.page_site import photo

STATUS = "document.querySelector('#status').textContent"


@pytest.mark.slow
def test_a_served_index_is_searched_described_and_grows(tmp_path):
    folder = tmp_path / "shapes.index"
    with Index.create(folder, made()) as index:
        index.add(items(60))
    phone = tmp_path / "phone.jpg"
    phone.write_bytes(photo(4000, 3000, "green"))
    command = [sys.executable, "-m", "lift", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with chromium(tmp_path) as tab:
                tab.open(url, width=390, height=844)
                tab.wait(f"{STATUS} === '48 items of 60 items'")
                tab.press("/")
                tab.type("a blue square")
                tab.wait(f"{STATUS}.includes('blue square')")
                first = "document.querySelector('.card .title').textContent"
                assert tab.run(first) == "a blue square"
                tab.click("#keep")
                tab.choose("#file", phone)
                tab.wait(f"{STATUS}.includes('phone.jpg')")
                tab.click(".card")
                tab.wait("document.querySelector('.told')")
                for route in ("labels", "explain", "describe"):
                    tab.click(f"[data-route={route}] summary")
                    tab.wait(f"document.querySelector('[data-route={route}] .lines')")
                tab.press("Escape")
                with Index.open(folder, writes=True) as index:  # while it is served
                    index.add([items(61)[-1]])
                tab.run("document.querySelector('#clear').click()")
                tab.wait(f"{STATUS} === '48 items of 60 items'")
                tab.run("new Promise(done => setTimeout(done, 3000))")
                tab.open(url)
                tab.wait(f"{STATUS} === '48 items of 61 items'")
                assert not tab.errors
                others = [one for one in tab.requests if not one.startswith((url, "blob:"))]
                assert not others
                policy = tab.run("fetch('').then(answer => [...answer.headers])")
                assert "default-src 'self'" in json.dumps(policy)
        finally:
            process.terminate()
            assert process.wait(30) == 0

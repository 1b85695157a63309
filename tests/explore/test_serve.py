"""--serve: 127.0.0.1 alone, fresh figures, a port in use, folders that come and go."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from fastpipe.errors import ArgumentError
from fastpipe.explore import serve
from fastpipe.explore.collect import Collector
from fastpipe.explore.payload import payload


@pytest.fixture
def server(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "_FRESH_S", 0.0)
    make_run("runs/one", finished=False)
    collector = Collector([str(tmp_path / "runs")], published=False)
    made = serve.Server(0, lambda: payload(collector.collect(), (), serving=True, created="now"))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def get(server, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_the_page_and_its_data(server):
    answer, body = get(server, "/?x=1")
    assert answer.status == 200 and b"connect-src &#x27;self&#x27;" in body
    answer, body = get(server, "/data.json")
    assert json.loads(body)["runs"][0]["id"] == "one"
    assert get(server, "/etc/passwd")[0].status == 404


def test_a_page_beside_a_run_is_served_in_a_sandbox_and_nothing_else_is(server, make_run, tmp_path):
    (tmp_path / "runs/one/profile.html").write_text("the profile")
    (tmp_path / "runs/one/secret.html").write_text("not a page of ours")
    make_run("runs/two")
    links = {run["id"]: run.get("links") for run in json.loads(get(server, "/data.json")[1])["runs"]}
    assert links["two"] is None
    answer, body = get(server, "/" + links["one"]["profile.html"])
    assert body == b"the profile" and answer.headers["Content-Security-Policy"] == "sandbox allow-scripts"
    for query in (
        "",
        "?run=one",
        "?run=two&name=profile.html",
        "?run=one&name=secret.html",
        "?run=one&name=..%2Fone%2Fprofile.html",
        "?run=none&name=profile.html",
    ):
        assert get(server, "/page" + query)[0].status == 404


def test_figures_stay_fresh_and_what_did_not_change_is_not_sent(server, make_run, tmp_path):
    answer, _ = get(server, "/data.json")
    tag = answer.headers["ETag"]
    assert get(server, "/data.json", **{"If-None-Match": tag})[0].status == 304
    make_run("runs/two")
    answer, body = get(server, "/data.json", **{"If-None-Match": tag})
    assert answer.status == 200 and [run["id"] for run in json.loads(body)["runs"]] == ["one", "two"]
    shutil.rmtree(tmp_path / "runs")
    values = json.loads(get(server, "/data.json")[1])
    assert values["runs"] == [] and "not there any more" in values["problems"][0]


def test_another_site_cannot_read_it_through_a_browser(server):
    port = server.server_address[1]
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/data.json", Host=f"evil.example:{port}")[0].status == 403
    assert get(server, "/data.json", Host=f"localhost:{port}")[0].status == 200


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"free port. Found: {port}, which another program uses"):
            serve.Server(port, dict)


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(tmp_path):
    command = [
        sys.executable,
        "-P",
        "-c",
        "import sys; from fastpipe.explore.cli import main; sys.exit(main())",
    ]
    with subprocess.Popen(
        [*command, "--serve", "0"], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        address = process.stdout.readline()
        assert address.startswith("http://127.0.0.1:")
        port = int(address.split(":")[2].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/data.json")
        assert len(json.loads(connection.getresponse().read())["runs"]) == 249
        connection.close()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0

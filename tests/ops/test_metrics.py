# SPDX-License-Identifier: GPL-3.0-or-later
"""The private port over a real socket, and that dashboard and alert rules name only metrics that are served."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clearing.model import commands as c
from clearing.model.errors import NovateError, Refused
from clearing.service.node import Node
from clearing.service.ops import private
from clearing.service.ops.alerts import NAMES
from clearing.service.ops.private import Report, Running, listen, read_running, url_of, write_running
from clearing.service.run import listen as public_listen
from tests.service.chains import Deployed, command, publish, trade
from tests.service.world import order

DOCS = Path(__file__).resolve().parents[2] / "docs/ops"
NAME = re.compile(r"\b(?:novate|process)_[a-z0-9_]+")


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    for name in ("alice", "bob"):
        deployed.deposit(name, 10**9)
    found = deployed.node()
    found.intakes[0].turn()
    trade(found)
    found.poster.turn()
    yield found
    found.close()


@pytest.fixture
def url(node: Node) -> str:
    assert node.watch is not None
    node.watch.look()
    return url_of("127.0.0.1", node.watch.serve("127.0.0.1", 0))


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=10, trust_env=False)


def samples(url: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Value by label values, by sample name."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(get(f"{url}/metrics").text):
        found.setdefault(family.name, {})  # a family without samples is served, too
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_metrics_are_what_the_venue_is(node: Node, url: str) -> None:
    """Counters count what was done, gauges agree with the state, and with each other."""
    found = samples(url)
    state = node.pipeline.reducer.state
    assert found["novate_journal_entries"][()] == node.store.head().next_seq
    assert found["novate_committed_entries_total"][()] == node.store.head().next_seq - 1  # genesis was there before
    assert found["novate_fills_total"][()] == 1
    assert found["novate_accounts"][()] == len(state.accounts) == 5
    assert found["novate_epoch"][()] == found["novate_vault_posted_epoch"][("0",)] == 1
    assert found["novate_epoch_lag"][("0",)] == 0
    assert 0 < found["novate_seconds_to_freeze"][("0",)] <= found["novate_freeze_deadline_seconds"][("0",)]
    assert found["novate_gas_balance_wei"][("0",)] // found["novate_epoch_cost_wei"][("0",)] == pytest.approx(
        found["novate_gas_epochs_left"][("0",)], abs=1
    )
    assert found["novate_mark_atoms"][("BTC-PERP",)] == state.instruments[1].mark
    assert found["novate_open_interest_lots"][("BTC-PERP",)] == 1
    assert found["novate_answer_seconds_count"][()] == found["novate_answer_seconds_bucket"][("+Inf",)] > 5
    assert found["process_resident_memory_bytes"][()] > 1 << 20


def test_refused_and_rejected_commands_are_told_apart(node: Node, url: str) -> None:
    """One never reaches the journal, the other is in it with its reason."""
    before = samples(url)
    with pytest.raises(NovateError):
        node.sequencer.submit(b"\x01garbage").result(10)
    command(node, "alice", c.CancelOrder(1, 999_999))
    after = samples(url)
    grown = {
        name: after[name][()] - before[name][()]
        for name in ("novate_refused_commands_total", "novate_rejected_commands_total")
    }
    assert grown == {"novate_refused_commands_total": 1, "novate_rejected_commands_total": 1}


def test_the_number_of_series_does_not_grow_with_use(node: Node, url: str) -> None:
    """No label holds what users send."""
    before = {name: set(rows) for name, rows in samples(url).items()}
    publish(node)
    for number in range(20):
        command(node, "bob", order(coid=100 + number))
    assert {name: set(rows) for name, rows in samples(url).items()} == before


def test_health_and_readiness_follow_the_writer(node: Node, url: str) -> None:
    """A halted writer is unhealthy; one that refuses for lack of room is alive and not ready."""
    assert [get(f"{url}/{path}").status_code for path in ("healthz", "readyz")] == [200, 200]
    committer = node.pipeline.committer
    committer._low = Refused("DISK_FULL", "no room")
    assert [get(f"{url}/{path}").status_code for path in ("healthz", "readyz")] == [200, 503]
    committer._low = None
    node.pipeline.halted = NovateError("COMMIT_FAILED", "x")
    answers = [get(f"{url}/{path}") for path in ("healthz", "readyz")]
    assert [(a.status_code, "COMMIT_FAILED" in a.text) for a in answers] == [(503, True), (503, True)]
    node.pipeline.halted = None


def test_the_report_decodes_to_what_was_encoded(node: Node, url: str) -> None:
    report = msgspec.json.decode(get(f"{url}/v1/operator").content, type=Report)
    assert report.figures.posted_epoch == 1 and report.figures.vaults[0].connected
    assert node.watch is not None
    assert [a.name for a in report.alerts] == [a.name for a in node.watch.judge(node.watch.gauges.read())]
    assert report.health in ("ok", "warning", "critical") and {a.name for a in report.alerts} <= set(NAMES)


@pytest.mark.slow
def test_a_rebound_name_and_other_methods_are_refused(url: str) -> None:
    """A page in the operator's browser must not read this through a name that suddenly means 127.0.0.1."""
    for path in ("/metrics", "/v1/operator", "/healthz"):
        answer = get(url + path, host="evil.example")
        assert answer.status_code == 421 and "novate_" not in answer.text
        assert get(url + path, host="localhost:99").status_code == 200
        assert httpx.post(url + path, trust_env=False).status_code == 405
    assert get(f"{url}/v1/commands").status_code == 404


def test_who_runs_is_on_record_while_it_runs(tmp_path: Path) -> None:
    assert read_running(tmp_path) is None
    write_running(tmp_path, Running(os.getpid(), "0.0.0.0", 1, "::", 2))
    found = read_running(tmp_path)
    assert found is not None and found.alive() and found.private_url == "http://[::1]:2"
    (tmp_path / private.RUNNING).write_text("{")
    assert read_running(tmp_path) is None
    taken = listen("127.0.0.1", 0)
    taken.listen()
    with pytest.raises(NovateError, match="PORT_UNAVAILABLE"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()


# --- what is shipped in docs/ops ---


def names_in(text: str) -> set[str]:
    return set(NAME.findall(text))


def test_every_metric_in_rules_and_dashboard_is_served(url: str) -> None:
    """A renamed metric would leave an alert that never fires."""
    served = set(samples(url))
    lines = (DOCS / "alerts.yml").read_text().splitlines()
    rules = "\n".join(line for line in lines if "expr:" in line or " novate_" in line or line.strip()[:1] in "(<1")
    dashboard = json.loads((DOCS / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(expressions) > 40
    wanted = names_in(rules) | names_in("\n".join(expressions)) | names_in((DOCS / "alerts_test.yml").read_text())
    assert len(wanted) > 40
    assert wanted - served == set()


def test_the_dashboard_shows_every_gauge_of_the_venue(url: str) -> None:
    """What is measured is shown, but for what is about the monitoring itself."""
    dashboard = (DOCS / "dashboard.json").read_text()
    hidden = {
        "novate_build", "novate_build_info", "novate_uptime_seconds", "novate_journal_entries", "novate_accounts",
        "novate_open_orders", "novate_haircut_ppm", "novate_posted_epoch", "novate_freeze_deadline_seconds",
        "novate_faults", "novate_journal_reserve_ready", "novate_vault_frozen", "novate_oracle_quorum",
        "novate_risk_scan_age_seconds", "novate_index_age_seconds",
    }  # fmt: skip
    families = {family.name for family in text_string_to_metric_families(get(f"{url}/metrics").text)}
    missing = {name for name in families if name.startswith("novate_") and name not in dashboard} - hidden
    assert missing == set()


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have their own numbers and lie on the grid of 24 columns without covering each other."""
    dashboard: dict[str, Any] = json.loads((DOCS / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert dashboard["templating"]["list"][0]["type"] == "datasource"


def promtool() -> str:
    found = os.environ.get("NOVATE_TEST_PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("promtool is not installed: apt-get install prometheus, or set NOVATE_TEST_PROMTOOL")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
        ("check", "config", "prometheus.yml"),
    ],
)
def test_prometheus_itself_takes_the_rules(arguments: tuple[str, ...]) -> None:
    """Syntax, and what fires when."""
    done = subprocess.run([promtool(), *arguments], cwd=DOCS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_metrics_page(url: str) -> None:
    """promtool's lint of the exposition: types, names, help."""
    page = get(f"{url}/metrics").text
    done = subprocess.run([promtool(), "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stderr.splitlines() if line.startswith("novate_")]
    assert done.returncode in (0, 3) and lines == [], done.stderr


# --- the sockets themselves ---


@pytest.mark.parametrize("bind", [listen, public_listen])
def test_answers_are_not_held_back_by_nagle(bind: Callable[[str, int], socket.socket]) -> None:
    """Of a connection as asyncio hands it to a server: with Nagle's algorithm on, an answer in two packets waits for
    the client's delayed acknowledgement, 40 ms, whatever the venue takes."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held = writer.get_extra_info("socket")
            found.set_result(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind("127.0.0.1", 0)
        async with await asyncio.start_server(serve, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            option = await found
            writer.close()
            return option

    assert asyncio.run(accepted()) != 0

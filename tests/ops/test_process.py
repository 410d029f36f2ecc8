# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's own commands against a real process on a real chain, as README's reader types them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clearing.chain.embedded import dev_key
from clearing.client.http import ApiClient
from clearing.model.commands import OracleUpdate, Price
from clearing.model.signature import sign
from clearing.service.layout import read_key
from clearing.service.ops.private import Running, read_running
from journal import Store
from tests.chain.nodes import free_port
from tests.cli.venue import ROOT, Result, checked, command_line
from tests.nodes import ChainNode, start_node

pytestmark = pytest.mark.slow


def novate(*arguments: str, **env: str) -> Result:
    return checked(command_line(*arguments, env=env), "--json" in arguments)


def ok(*arguments: str, **env: str) -> Result:
    done = novate(*arguments, **env)
    assert done.status == 0, done.err
    return done


class Process:
    """`novate operator run` with its log."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.log = data, data.parent / f"log-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "clearing.cli", "operator", "run", str(data), "--port", "0", *options]
        env = {k: v for k, v in os.environ.items() if not k.startswith("NOVATE_")} | {"PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
        self.running = self._wait()

    def _wait(self) -> Running:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            found = read_running(self.data)
            if found is not None and found.pid == self.process.pid:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(self.url + "/v1/status", trust_env=False).raise_for_status()
                    return found
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    @property
    def url(self) -> str:
        found = read_running(self.data)
        assert found is not None
        return f"http://127.0.0.1:{found.port}"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def chain() -> Iterator[ChainNode]:
    node = start_node()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def wallet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wallet") / "w"
    path.write_text(dev_key(0).hex())
    path.chmod(0o600)
    return path


@pytest.fixture
def data(chain: ChainNode, wallet: Path, tmp_path: Path) -> Path:
    """A venue that `novate init` set up."""
    path = tmp_path / "venue"
    ok("init", str(path), "--rpc", chain.url, "--wallet", str(wallet), "--gas", "1", "--confirmations", "0")
    return path


@pytest.fixture
def operator(data: Path) -> Iterator[Process]:
    found = Process(data, "--epoch-seconds", "2")
    yield found
    if found.process.poll() is None:
        found.stop()


def publish(operator: Process) -> None:
    key = operator.data / "keys" / "publisher-0.ed25519"
    ok("oracle", "publish", "1=60.00", "2=30.00", "--publisher-key", str(key), NOVATE_API=operator.url)


def eventually(work: Any, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := work()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found
    return found


# --- init ---


def test_init_makes_a_venue_that_the_doctor_finds_sound(data: Path, chain: ChainNode, wallet: Path) -> None:
    """In one command; a second one touches nothing."""
    report = novate("doctor", str(data), "--json").data
    machine = ("disk", "clock", "file system", "open files", "public port", "private port")
    assert [f for f in report["findings"] if f["level"] != "ok" and f["name"] not in machine] == []
    assert (data.stat().st_mode & 0o777, (data / "config.toml").stat().st_mode & 0o777) == (0o700, 0o600)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != "lock.mdb"}
    again = novate("init", str(data), "--rpc", chain.url, "--wallet", str(wallet))
    assert (again.status, again.code) == (1, "DATA_DIR_NOT_EMPTY")
    assert before == {path: path.read_bytes() for path in before}


def test_an_interrupted_init_goes_on_with_its_keys_and_its_vault(
    chain: ChainNode, wallet: Path, tmp_path: Path
) -> None:
    """The first attempt ends after the vault is deployed; the second one pays for no other."""
    path = tmp_path / "venue"
    arguments = ("init", str(path), "--rpc", chain.url, "--wallet", str(wallet))
    failed = novate(*arguments, "--origin", "Not A Domain")
    assert (failed.status, failed.code) == (1, "INVALID_GENESIS")
    record = json.loads((path / "vault.json").read_text())
    key = (path / "keys" / "operator.ed25519").read_bytes()
    found = ok(*arguments, "--json").data
    assert found["vault"] == record["vault"] and (path / "keys" / "operator.ed25519").read_bytes() == key


# --- a running operator ---


def test_status_tells_health_by_its_exit_status(operator: Process) -> None:
    """Critical without a price, well with one; nobody there is neither."""
    sick = novate("operator", "status", str(operator.data))
    assert (sick.status, sick.code) == (1, "UNHEALTHY") and "NovateOracleQuorumLost" in sick.out
    publish(operator)
    eventually(lambda: read_figures(operator)["posted_epoch"] > 1)
    publish(operator)
    well = ok("operator", "status", str(operator.data))
    for part in ("freeze in 6 d", "gas for", "posted", "oracle 0", "insurance fund"):
        assert part in well.out
    data = ok("operator", "status", "--url", operator.running.private_url, "--json").data
    assert data["figures"]["vaults"][0]["epochs_left"] > 100
    assert operator.stop() == 0
    assert read_running(operator.data) is None
    gone = novate("operator", "status", str(operator.data))
    assert (gone.status, gone.code) == (4, "OPERATOR_UNREACHABLE")


def test_the_doctor_works_beside_a_running_operator(operator: Process) -> None:
    """It asks the process itself, reads the journal beside its writer, and finds nothing wrong."""
    publish(operator)
    eventually(lambda: read_figures(operator)["posted_epoch"] >= 1)
    report = novate("doctor", str(operator.data), "--json").data
    machine = ("disk", "clock", "file system", "open files")
    assert [f for f in report["findings"] if f["level"] != "ok" and f["name"] not in machine] == []
    details = {f["name"]: f["detail"] for f in report["findings"]}
    assert details["operator"].startswith("runs, ready") and "in use" in details["journal"]


def read_figures(operator: Process) -> dict[str, Any]:
    answer = httpx.get(operator.running.private_url + "/v1/operator", trust_env=False).json()
    found: dict[str, Any] = answer["figures"]
    return found


def test_the_public_port_serves_nothing_of_the_private_one(operator: Process) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/v1/operator"):
        answer = httpx.get(operator.url + path, trust_env=False)
        assert answer.status_code == 404 or "novate_journal" not in answer.text, path
        assert httpx.get(operator.running.private_url + path, trust_env=False).status_code == 200


def test_the_log_is_json_and_does_not_grow_with_commands(operator: Process) -> None:
    """Hundreds of commands, accepted and refused: not a line for any of them. What goes wrong is told once."""
    publish(operator)
    eventually(lambda: any(line["event"] == "alert over" for line in operator.lines()))
    count = sum(line["event"] != "epoch posted" for line in operator.lines())
    with ApiClient(operator.url) as client:
        deployment = bytes.fromhex(client.status()["deployment"][2:])
        publisher = client.status()["publishers"][0]
        head, seed = bytes.fromhex(publisher["head"][2:]), read_key(operator.data / "keys/publisher-0.ed25519")
        from clearing.model.codec import body_hash, encode

        raws = []
        for number in range(300):
            body = OracleUpdate(deployment, 0, head, time.time_ns() // 1_000 + number, (Price(1, 60_000_000, 1),))
            raws.append(sign(body, seed))
            head = body_hash(encode(body))
        results = client.submit_many(raws)
        assert sum("seq" in row for row in results) > 100
        refused = client.submit_many([b"\x00" * 20] * 300)
        assert all("code" in row for row in refused)
    time.sleep(1)
    after = [line for line in operator.lines() if line["event"] != "epoch posted"]
    assert len(after) - count < 10, after[count:]


def test_a_backup_while_it_runs_a_crash_and_a_restoration_on_another_disk(operator: Process, tmp_path: Path) -> None:
    """The whole journey: backed up live, killed, refused without what came after, restored with it, and it runs on."""
    publish(operator)
    eventually(lambda: read_figures(operator)["posted_epoch"] >= 1)
    phrase = tmp_path / "passphrase"
    phrase.write_text("five random words are better")
    phrase.chmod(0o600)
    backup, new = tmp_path / "backup", tmp_path / "new"
    told = ok("operator", "backup", str(operator.data), str(backup), "--passphrase-file", str(phrase), "--json").data
    assert told["verified"] and told["sealed_keys"]
    posted = read_figures(operator)["posted_epoch"]
    eventually(lambda: read_figures(operator)["posted_epoch"] > posted)
    arguments = ("operator", "restore", str(backup), str(new), "--passphrase-file", str(phrase))
    alive = novate(*arguments, "--from", str(operator.data))
    assert (alive.status, alive.code) == (1, "STILL_RUNNING")
    operator.stop(signal.SIGKILL)
    with Store.open(operator.data / "journal", read_only=True) as store:
        head = store.head()
    behind = novate(*arguments, "--nothing-since")
    assert (behind.status, behind.code) == (1, "RESTORE_BEHIND") and not new.exists()
    restored = ok(*arguments, "--from", str(operator.data), "--json").data
    assert (restored["size"], restored["root"]) == (head.next_seq, "0x" + head.tree_root.hex())
    raw = novate("operator", "run", str(backup))
    assert (raw.status, raw.code) == (1, "IS_A_BACKUP")
    again = Process(new, "--epoch-seconds", "2")
    try:
        eventually(lambda: read_figures(again)["posted_epoch"] > restored["epoch"])
        assert ok("audit", "replay", "--api", again.url, "--json").data["ok"]
    finally:
        assert again.stop() == 0


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """Memory where there is some, since this test syncs thousands of times and is not about that."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory)) if os.access(memory, os.W_OK) else tmp_path
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_full_disk_is_told_before_and_when_it_stops_orders(chain: ChainNode, wallet: Path, quick_disk: Path) -> None:
    """A small map stands for the disk: a warning above the limit, then refusals, readiness gone, health not."""
    path = quick_disk / "venue"
    ok("init", str(path), "--rpc", chain.url, "--wallet", str(wallet), "--gas", "1", "--confirmations", "0")
    text = (path / "config.toml").read_text()
    for was, is_now in (
        ("watch_seconds = 5.0", "watch_seconds = 0.05"),
        ("journal_map_bytes = 1099511627776", "journal_map_bytes = 6291456"),
        ("commands_per_second = 1000.0", "commands_per_second = 1000000.0"),
    ):
        assert was in text
        text = text.replace(was, is_now)
    (path / "config.toml").write_text(text)
    operator = Process(path, "--epoch-seconds", "600")
    try:
        seed = read_key(path / "keys/publisher-0.ed25519")
        from clearing.model.codec import body_hash, encode

        codes: set[str] = set()
        with ApiClient(operator.url) as client:
            status = client.status()
            deployment, head = bytes.fromhex(status["deployment"][2:]), bytes(32)
            for _ in range(4_000):
                raws = []
                for number in range(8):
                    body = OracleUpdate(deployment, 0, head, time.time_ns() // 1_000 + number, (Price(1, 1, 1),))
                    raws.append(sign(body, seed))
                    head = body_hash(encode(body))
                codes |= {row["code"] for row in client.submit_many(raws) if "code" in row}
                if codes:
                    break
        assert codes == {"JOURNAL_FULL"}
        eventually(lambda: "NovateRefusing" in operator.log.read_text())
        sick = novate("operator", "status", str(path))
        assert sick.status == 1 and "NovateRefusing" in sick.out and "journal_map_bytes" in sick.out
        private = operator.running.private_url
        assert httpx.get(f"{private}/readyz", trust_env=False).status_code == 503
        assert httpx.get(f"{private}/healthz", trust_env=False).status_code == 200
        told = [line["alert"] for line in operator.lines() if line["event"] == "alert"]
        assert told.index("NovateDiskLow") < told.index("NovateRefusing")
    finally:
        assert operator.stop() == 0


def prometheus() -> str:
    found = os.environ.get("NOVATE_TEST_PROMETHEUS") or shutil.which("prometheus")
    if not found:
        pytest.skip("prometheus is not installed: apt-get install prometheus, or set NOVATE_TEST_PROMETHEUS")
    return found


def test_a_real_prometheus_scrapes_alerts_and_fills_every_panel(operator: Process, tmp_path: Path) -> None:
    """With the files as they are shipped, but for port and interval: the target is up, every rule evaluates, the
    missing price is told, and no panel of the dashboard is empty."""
    folder, port = tmp_path / "prometheus", free_port()
    shutil.copytree(ROOT / "docs/ops", folder)
    text = (folder / "prometheus.yml").read_text().replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text.replace("8641", str(operator.running.private_port)))
    command = [
        prometheus(),
        "--config.file",
        str(folder / "prometheus.yml"),
        "--storage.tsdb.path",
        str(tmp_path / "db"),
    ]
    server = subprocess.Popen([*command, "--web.listen-address", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)

    def get(path: str, **query: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=query, trust_env=False).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def firing() -> set[str]:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            return {a["labels"]["alertname"] for a in get("alerts")["alerts"] if a["state"] == "firing"}
        return set()

    def empty() -> list[str]:
        panels = json.loads((folder / "dashboard.json").read_text())["panels"]
        wanted = [target["expr"] for panel in panels for target in panel.get("targets", ())]
        return [expression for expression in wanted if not get("query", query=expression)["result"]]

    try:
        eventually(lambda: firing() >= {"NovateOracleStale", "NovateOracleQuorumLost"}, 40)
        assert [target["health"] for target in get("targets")["activeTargets"]] == ["up"]
        rules = [rule for group in get("rules")["groups"] for rule in group["rules"]]
        assert len(rules) > 20 and [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        eventually(lambda: read_figures(operator)["posted_epoch"] >= 2)
        eventually(lambda: not empty(), 40)
        publish(operator)
        eventually(lambda: not firing() & {"NovateOracleStale", "NovateOracleQuorumLost"})
    finally:
        server.terminate()
        server.wait(20)

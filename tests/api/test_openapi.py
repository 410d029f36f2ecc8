# SPDX-License-Identifier: GPL-3.0-or-later
"""The description that is served is what is served: every answer has the type that its resource declares, and what a
generator of requests finds are answers that the description names, never a fault of ours."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from clearing.api.http import errors, guard
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.params import OracleRules, Params
from clearing.service.node import Node
from tests.api.beside import Beside
from tests.api.venue import PATIENCE_S, node_of, trades
from tests.service.world import BTC, World, make_data_dir, order, owner_of

MSGPACK = "application/msgpack"


class Scene:
    """A venue with trades, a closed epoch, and its interface."""

    def __init__(self, node: Node, world: World, beside: Beside) -> None:
        self.node = node
        self.world = world
        self.http = httpx.Client(base_url=beside.url, timeout=30, trust_env=False)
        self.url = beside.url
        self.document: dict[str, Any] = self.http.get("/v1/openapi.json").json()

    def schema(self, path: str, method: str, status: int, media: str = errors.JSON) -> Any:
        answers = self.document["paths"][path][method]["responses"]
        assert str(status) in answers, f"{method} {path} may not answer {status}"
        found = answers[str(status)].get("content", {})
        assert media in found, f"{method} {path} answers {status} with {media}"
        return (
            {"$ref": found[media]["schema"].get("$ref"), "components": self.document["components"]}
            if ("$ref" in found[media]["schema"])
            else found[media]["schema"]
        )

    def check(self, path: str, method: str, answer: httpx.Response) -> Any:
        """The answer, once it is one that the description allows."""
        media = answer.headers["content-type"].split(";")[0]
        schema = self.schema(path, method, answer.status_code, media)
        if media != errors.JSON:
            return answer.content
        jsonschema_rs.validate(schema, answer.json())
        assert {"x-novate-seq", "x-novate-age-ms", "x-novate-stale", "x-ratelimit-remaining"} <= set(answer.headers)
        return answer.json()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    path = tmp_path_factory.mktemp("openapi") / "venue"
    make_data_dir(path, params=Params(oracle_max_age_us=ids.DAY_US, oracle=OracleRules(fill_max_age_us=ids.DAY_US)))
    world = World(path)
    world.open()
    world.close()
    with node_of(path) as node, pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "MIN_SEQ_S", 0.05)  # generated requests ask for entries that never come
        beside = Beside(node)
        world.now_us = time.time_ns() // 1_000
        node.sequencer.submit(world.price(500_000_000)).result(PATIENCE_S)
        resting = [world.batch("alice", order(coid=900, price=490_000_000))]
        trigger = c.PlaceTrigger(BTC, ids.SELL, 450_000_000, False, 440_000_000, 1, 901)
        for raw in [*trades(world, 1, 5), *resting, world.batch("alice", trigger)]:
            node.sequencer.submit(raw).result(PATIENCE_S)
        node.sequencer.submit(world.operator(c.CloseEpoch(1, ((1, bytes(32)),)))).result(PATIENCE_S)
        node.book.flush()
        scene = Scene(node, world, beside)
        yield scene
        scene.http.close()
        beside.stop()


def test_the_description_covers_every_route_and_only_those(scene: Scene) -> None:
    """OpenAPI 3.1 with unique names; each error that it lists has a status, each schema that it names is there."""
    document = scene.document
    names = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert document["openapi"] == "3.1.0" and len(names) == len(set(names)) >= 33
    referred = set(json.dumps(document).split('"#/components/schemas/')[1:])
    assert {text.split('"')[0] for text in referred} <= set(document["components"]["schemas"])
    told = scene.http.get("/v1/no/such")
    assert (told.status_code, told.json()["code"]) == (404, "NOT_FOUND")
    told = scene.http.delete("/v1/status")
    assert (told.status_code, told.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


def test_every_read_answers_as_described(scene: Scene) -> None:
    """Each GET with what exists: 200 and the declared type; amounts are strings in all of them."""
    known = {
        "instrument": str(BTC), "account": "3", "owner": "0x" + owner_of("alice").hex(), "seq": "5", "epoch": "1",
        "client_order_id": "900",
    }  # fmt: skip
    seen = 0
    for path, item in scene.document["paths"].items():
        if "get" not in item:
            continue
        answer = scene.http.get(path.format(**known))
        body = scene.check(path, "get", answer)
        if path.startswith("/v1/proofs/"):  # nothing is posted: there is no chain here
            assert answer.json()["code"] == "NOT_POSTED"
            continue
        if path != "/v1/attestations/{epoch}":
            assert answer.status_code == 200, (path, body)
        seen += 1
        _amounts(body, path)
    assert seen >= 27


def _amounts(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if name.endswith(("_atoms", "_lots")):
                found = item if isinstance(item, list) else [item]
                assert all(one is None or isinstance(one, str) for one in found), (where, name, item)
            _amounts(item, f"{where} {name}")
    elif isinstance(value, list):
        for item in value:
            _amounts(item, where)


def test_commands_are_taken_as_msgpack_and_as_json(scene: Scene) -> None:
    """The same bytes by either way, alone or in a batch, have one receipt; the state that is read is after it."""
    raw = scene.world.batch("bob", order(coid=77, price=480_000_000))
    first = scene.http.post("/v1/commands?proof=1", content=raw, headers={"content-type": MSGPACK})
    again = scene.http.post("/v1/commands", json={"envelope": "0x" + raw.hex()})
    receipts = [scene.check("/v1/commands", "post", answer) for answer in (first, again)]
    assert receipts[0]["seq"] == receipts[1]["seq"] and receipts[0]["proof"] and "proof" not in receipts[1]
    other = scene.world.batch("bob", order(coid=78, price=480_000_000))
    assert receipts[0]["rejected"] == []
    both = scene.http.post("/v1/commands/batch", json={"envelopes": ["0x" + raw.hex(), "0x" + other.hex()]})
    results = scene.check("/v1/commands/batch", "post", both)["results"]
    assert results[0]["seq"] == receipts[0]["seq"] < results[1]["seq"]
    found = scene.http.get("/v1/accounts/4/orders", params={"min_seq": results[1]["seq"]}).json()
    assert {"77", "78"} <= {row["client_order_id"] for row in found["orders"]}


@pytest.mark.parametrize(
    ("method", "path", "resource", "content", "status", "code"),
    [
        ("post", "/v1/commands", "/v1/commands", b"\xc1", 400, "MALFORMED"),
        ("post", "/v1/commands", "/v1/commands", bytes(100_000), 413, "ENVELOPE_TOO_LARGE"),
        ("post", "/v1/commands/batch", "/v1/commands/batch", b"\x90", 400, "BAD_PARAMETER"),
        ("get", "/v1/accounts/99", "/v1/accounts/{account}", None, 404, "UNKNOWN_ACCOUNT"),
        ("get", "/v1/accounts/x", "/v1/accounts/{account}", None, 400, "BAD_PARAMETER"),
        ("get", "/v1/owners/0x12", "/v1/owners/{owner}", None, 400, "BAD_PARAMETER"),
        ("get", "/v1/books/77", "/v1/books/{instrument}", None, 404, "UNKNOWN_INSTRUMENT"),
        ("get", "/v1/books/1?depth=0", "/v1/books/{instrument}", None, 400, "BAD_PARAMETER"),
        ("get", "/v1/entries/99999", "/v1/entries/{seq}", None, 404, "UNKNOWN_SEQ"),
        ("get", "/v1/epochs/7", "/v1/epochs/{epoch}", None, 404, "UNKNOWN_EPOCH"),
        ("get", "/v1/status?min_seq=999999", "/v1/status", None, 503, "REPLICA_BEHIND"),
        ("get", "/v1/status?min_seq=-1", "/v1/status", None, 400, "BAD_PARAMETER"),
        ("post", "/v1/attestations", "/v1/attestations", b"{}", 400, "BAD_PARAMETER"),
        ("post", "/v1/vouchers", "/v1/vouchers", b"[" * 50_000, 400, "BAD_PARAMETER"),
    ],
)
def test_bad_requests_have_their_code(
    scene: Scene, method: str, path: str, resource: str, content: bytes | None, status: int, code: str
) -> None:
    """A stable code, the status that the description lists, and a message that says more than the code."""
    answer = scene.http.request(method, path, content=content)
    told = scene.check(resource, method, answer)
    assert (answer.status_code, told["code"]) == (status, code) and len(told["message"]) > 15


def test_pages_of_other_origins_may_ask(scene: Scene) -> None:
    """No cookies, so any origin; the headers that tell freshness can be read there."""
    answer = scene.http.get("/v1/status", headers={"origin": "https://page.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "x-novate-seq" in answer.headers["access-control-expose-headers"]


@pytest.mark.slow
def test_generated_requests_find_no_fault(scene: Scene, tmp_path: Path) -> None:
    """schemathesis: no 5xx but those that say when to come again, no status, type or body that is not described."""
    checks = (
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
        "negative_data_rejection",
    )  # fmt: skip
    config = tmp_path / "schemathesis.toml"
    config.write_text('[checks.not_a_server_error]\nexpected-statuses = ["2xx", "4xx", 503, 507]\n')
    command = [
        str(Path(sys.executable).with_name("schemathesis")), f"--config-file={config}", "run", "--no-color",
        "--phases=examples,coverage,fuzzing", "--max-examples=25", "--seed=1",
        f"--checks={','.join(checks)}", scene.url + "/v1/openapi.json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]

# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate operator init|run|rotate`: set up and run the venue."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import NUMBER, json_option
from clearing.cli.output import emit, fail, note, parse_address, reports_errors
from clearing.model.params import Instrument

if TYPE_CHECKING:
    from clearing.chain.rpc import Rpc
    from clearing.chain.wallet import Wallet
    from clearing.client.http import ApiClient
    from clearing.model.commands import OperatorCommand
    from clearing.model.params import Params

_data = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def operator() -> None:
    """Set up and run the venue."""


@operator.command("keys")
@_data
@click.option(
    "--publishers", default=1, show_default=True, type=click.IntRange(1, 64), help="Oracle publishers to make keys for."
)
@json_option
@reports_errors
def keys(directory: Path, publishers: int, as_json: bool) -> None:
    """Make the operator's keys in DIRECTORY; existing ones are kept. The first step of a deployment."""
    from clearing.chain.wallet import Wallet
    from clearing.model.signature import public_key_of
    from clearing.service.layout import create_keys

    made = create_keys(directory, publishers)
    emit(
        {
            "directory": directory,
            "operator_key": public_key_of(made.operator),
            "operator_address": Wallet(made.operator_secp256k1).address,
            "publishers": ["0x" + public_key_of(seed).hex() for seed in made.publishers],
        },
        as_json,
    )


@operator.command("init")
@_data
@click.option("--rpc", envvar="NOVATE_RPC", required=True, help="Endpoint of the vault's chain.")
@click.option("--vault", envvar="NOVATE_VAULT", required=True, help="Address of the vault.")
@click.option("--confirmations", default=12, show_default=True, help="Blocks until L1 counts as final.")
@click.option("--origin", default="novate.local", show_default=True, help="Domain name in the journal's origin.")
@click.option("--publishers", default=1, show_default=True, type=click.IntRange(1, 64), help="Oracle publishers.")
@click.option(
    "--instruments",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="JSON list of instruments; BTC-PERP and ETH-PERP without it.",
)
@click.option(
    "--params",
    "params_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="JSON as `novate params show --json` prints it, or a part of it; defaults for the rest.",
)
@json_option
@reports_errors
def init(
    directory: Path,
    rpc: str,
    vault: str,
    confirmations: int,
    origin: str,
    publishers: int,
    instruments: Path | None,
    params_file: Path | None,
    as_json: bool,
) -> None:
    """Write configuration and genesis into DIRECTORY for a deployed vault; nothing is overwritten."""
    from clearing.chain.deploy import require_verified, verify_deployment
    from clearing.chain.rpc import Rpc
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet
    from clearing.service.config import Config
    from clearing.service.layout import Layout, create_keys
    from clearing.service.setup import Deployment, init_data_dir

    if Layout(directory).journal.exists():
        fail("DATA_DIR_NOT_EMPTY", f"{directory} holds a deployment; choose another directory")
    # The files first: keys are made only for what can be.
    listed, rules = _instruments(instruments), _params(params_file, publishers)
    client = VaultClient(Rpc(rpc), parse_address(vault, "--vault"))
    require_verified(verify_deployment(client.rpc, client.address))
    made = create_keys(directory, publishers)
    address = Wallet(made.operator_secp256k1).address
    if address != client.operator():
        raise click.UsageError(
            f"the vault's operator is 0x{client.operator().hex()}, the key in {directory} is 0x{address.hex()}; "
            "deploy with: novate vault deploy --operator"
        )
    chosen = Deployment(
        deployment=client.deployment_id(),
        origin=origin,
        chain_id=client.rpc.chain_id(),
        vault=client.address,
        tokens=tuple(client.tokens()),
        operator_address=address,
        treasury=client.treasury(),
        instruments=listed,
        params=rules,
    )
    config = Config(rpc_url=rpc, confirmations=confirmations)
    genesis = init_data_dir(directory, chosen, time.time_ns() // 1_000, config, publishers)
    emit({"directory": directory, "deployment": genesis.deployment, "vault": client.address}, as_json)
    note(f"edit {directory}/config.toml if needed, then: novate operator run {directory}")


def _instruments(path: Path | None) -> tuple[Instrument, ...]:
    import msgspec

    from clearing.cli.params import unnamed

    if path is None:
        return (
            Instrument(1, "BTC-PERP", "BTC", 1_000, 1_000_000, 50_000, 30_000),
            Instrument(2, "ETH-PERP", "ETH", 100, 10_000_000, 50_000, 30_000),
        )
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=list[dict[str, str | int | bool]])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: {error}; give a list of objects") from None
    return tuple(unnamed(Instrument, row, None, f"instrument {index}") for index, row in enumerate(rows))


def _params(path: Path | None, publishers: int) -> "Params":
    """Parameters of the genesis; where no file says otherwise, more than half of the publishers are a quorum."""
    import msgspec

    from clearing.cli.params import read_params
    from clearing.model.params import Params

    default = msgspec.structs.replace(Params(), oracle_quorum=publishers // 2 + 1)
    return default if path is None else read_params(path, default)


@operator.command("run")
@_data
@click.option("--host", help="Address to listen on; from config.toml by default.")
@click.option("--port", type=int, help="Port; 0 chooses a free one.")
@click.option(
    "--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the port here once it serves."
)
@click.option("--rpc", help="Endpoint of the chain; from config.toml by default.")
@click.option("--epoch-seconds", type=int, help="How often to post an epoch.")
@reports_errors
def run(
    directory: Path,
    host: str | None,
    port: int | None,
    port_file: Path | None,
    rpc: str | None,
    epoch_seconds: int | None,
) -> None:
    """Run sequencer, HTTP interface, chain intake and epoch poster over DIRECTORY, until SIGTERM."""
    from clearing.service.node import run_operator

    raise SystemExit(run_operator(directory, host, port, rpc, epoch_seconds, port_file))


@operator.command("rotate")
@_data
@click.option("--api", envvar="NOVATE_API", default="http://127.0.0.1:8640", show_default=True)
@click.option("--publisher", type=NUMBER, help="Rotate this oracle publisher's key instead of the operator's.")
@json_option
@reports_errors
def rotate(directory: Path, api: str, publisher: int | None, as_json: bool) -> None:
    """Replace the operator's keys, or a publisher's, by a journalled command signed with the old key.

    New key files appear beside the old ones. An operator's rotation is also told to the vault, by the old
    address, whose gas money goes to the new one but for a tenth. Restart the operator afterwards, so that
    it signs headers with the new key. What was interrupted is made whole by rotating again.
    """
    from clearing.client.http import ApiClient
    from clearing.service.layout import Layout, ensure_key

    stamp = time.time_ns() // 1_000
    folder = Layout(directory).keys
    with ApiClient(api) as client:
        if publisher is None:
            found = _rotate_operator(directory, client, stamp)
        else:
            count = len(client.status()["publishers"])
            if publisher >= count:
                fail("UNKNOWN_PUBLISHER", f"the venue has publishers 0 to {count - 1}, not {publisher}")
            seed = ensure_key(folder / f"publisher-{publisher}-{stamp}.ed25519")
            found = _rotate_publisher(directory, client, stamp, seed, publisher)
    emit(found, as_json)
    if publisher is None:
        note("restart the operator now: it signs and posts with the new keys from then on")


def _submit_as_operator(directory: Path, client: "ApiClient", stamp: int, command: "OperatorCommand") -> int:
    """Sign with the key that genesis or the last rotation named; the journal's seq."""
    from clearing.model.commands import OperatorBatch
    from clearing.model.errors import NovateError
    from clearing.model.signature import sign
    from clearing.service.layout import KeyRing, Layout

    status = client.status()
    live = bytes.fromhex(str(status["operator_key"])[2:])
    key = KeyRing(Layout(directory).keys).ed25519(live)
    body = OperatorBatch(bytes.fromhex(str(status["deployment"])[2:]), stamp, (command,))
    receipt = client.submit(sign(body, key.seed))
    if receipt["rejected"]:
        raise NovateError(receipt["rejected"][0]["code"], "the rotation was refused; the old key stays live")
    return int(receipt["seq"])


def _rotate_operator(directory: Path, client: "ApiClient", stamp: int) -> dict[str, object]:
    from clearing.chain.errors import ChainError
    from clearing.chain.rpc import Rpc
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet
    from clearing.cli.sources import genesis_of
    from clearing.model.commands import RotateOperator
    from clearing.model.signature import public_key_of
    from clearing.service.config import load
    from clearing.service.layout import Layout, ensure_key

    folder = Layout(directory).keys
    vault_address = genesis_of(None, client.url).vaults[0].address
    reader = VaultClient(Rpc(load(directory).rpc_url), vault_address)
    old = _wallet_of(folder, reader.operator())
    new = Wallet(ensure_key(folder / f"operator-{stamp}.secp256k1"))
    seed = ensure_key(folder / f"operator-{stamp}.ed25519")
    seq = _submit_as_operator(directory, client, stamp, RotateOperator(public_key_of(seed), new.address))
    try:
        receipt = VaultClient(reader.rpc, vault_address, old).send("rotateOperator", new.address)
        moved = _move_gas_money(reader.rpc, old, new.address)
    except ChainError as error:
        told = f"the journal has rotated, the vault may not have; run the same command again ({error.message})"
        raise ChainError(error.code, told) from None
    return {
        "seq": seq,
        "operator_key": public_key_of(seed),
        "operator_address": new.address,
        "transaction": receipt.tx_hash,
        "gas_money_moved_wei": moved,
    }


def _wallet_of(folder: Path, address: bytes) -> "Wallet":
    """The wallet in `folder` with this address. Raises `NovateError` KEY_NOT_HELD."""
    from clearing.chain.wallet import Wallet
    from clearing.model.errors import NovateError

    for path in sorted(folder.glob("*.secp256k1")):
        wallet = Wallet.load(path)
        if wallet.address == address:
            return wallet
    raise NovateError("KEY_NOT_HELD", f"no file in {folder} holds the key of the vault's operator 0x{address.hex()}")


def _move_gas_money(rpc: "Rpc", old: "Wallet", receiver: bytes) -> int:
    """Nine tenths of what the old address holds, in wei; the rest covers the fee and what is in flight."""
    from clearing.chain.transact import Sender

    amount = rpc.balance(old.address) * 9 // 10
    Sender(rpc, old).send(receiver, b"", amount)
    return amount


def _rotate_publisher(
    directory: Path, client: "ApiClient", stamp: int, seed: bytes, publisher: int
) -> dict[str, object]:
    from clearing.model.commands import RotatePublisher
    from clearing.model.signature import public_key_of

    seq = _submit_as_operator(directory, client, stamp, RotatePublisher(publisher, public_key_of(seed)))
    return {"seq": seq, "publisher": publisher, "key": public_key_of(seed)}

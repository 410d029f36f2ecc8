# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate operator keys|init|run|status|rotate|backup|restore|wind-down`: set up, run and end the venue."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.ending import wind_down
from clearing.cli.ops.backup import back_up, restore
from clearing.cli.ops.config import run_options
from clearing.cli.ops.status import status
from clearing.cli.options import NUMBER, SEVERAL, json_option, open_endpoint
from clearing.cli.output import emit, fail, note, parse_address, reports_errors
from clearing.model.params import Instrument

if TYPE_CHECKING:
    from clearing.chain.rpc import Rpc
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet
    from clearing.client.http import ApiClient
    from clearing.model.commands import OperatorCommand, Vault
    from clearing.model.params import Params
    from clearing.service.config import Config

_data = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def operator() -> None:
    """Set up and run the venue."""


for _command in (wind_down, status, back_up, restore):
    operator.add_command(_command)


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
@click.option(
    "--rpc",
    "rpcs",
    envvar="NOVATE_RPC",
    required=True,
    multiple=True,
    help=f"Endpoint of a vault's chain, once per vault; {SEVERAL}.",
)
@click.option(
    "--vault",
    "vaults",
    envvar="NOVATE_VAULT",
    required=True,
    multiple=True,
    help="Address of a vault, one for each --rpc. Their order numbers them from 0.",
)
@click.option(
    "--confirmations",
    default="12",
    show_default=True,
    help='Blocks until a chain counts as final, or "finalized" for what it calls so itself.',
)
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
    rpcs: tuple[str, ...],
    vaults: tuple[str, ...],
    confirmations: str,
    origin: str,
    publishers: int,
    instruments: Path | None,
    params_file: Path | None,
    as_json: bool,
) -> None:
    """Write configuration and genesis into DIRECTORY for deployed vaults; nothing is overwritten.

    Attestors, threshold and governor are what the vaults themselves say.
    """
    found = found_venue(directory, rpcs, vaults, confirmations, origin, publishers, instruments, params_file)
    emit(found, as_json)
    note(f"edit {directory}/config.toml if needed, then: novate operator run {directory}")


def found_venue(
    directory: Path,
    rpcs: tuple[str, ...],
    vaults: tuple[str, ...],
    confirmations: str,
    origin: str,
    publishers: int,
    instruments: Path | None,
    params_file: Path | None,
) -> dict[str, object]:
    """Keys, configuration and genesis for deployed vaults; what was founded."""
    from clearing.chain.deploy import require_verified, verify_deployment
    from clearing.chain.governance import checks_of
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet
    from clearing.service.layout import Layout, create_keys
    from clearing.service.setup import Deployment, init_data_dir

    if Layout(directory).journal.exists():
        fail("DATA_DIR_NOT_EMPTY", f"{directory} holds a deployment; choose another directory")
    if len(rpcs) != len(vaults):
        raise click.UsageError("--rpc and --vault go together, as many of one as of the other")
    # The files first: keys are made only for what can be.
    listed, rules, config = _instruments(instruments), _params(params_file, publishers), _config(rpcs, confirmations)
    pairs = zip(rpcs, vaults, strict=True)
    clients = [VaultClient(open_endpoint(rpc), parse_address(vault, "--vault")) for rpc, vault in pairs]
    for client in clients:
        require_verified(verify_deployment(client.rpc, client.address))
        require_verified(checks_of(client))
    made = create_keys(directory, publishers)
    address = Wallet(made.operator_secp256k1).address
    _require_alike(clients, address, directory)
    chosen = Deployment(
        deployment=clients[0].deployment_id(),
        origin=origin,
        vaults=tuple(map(_vault_of, clients)),
        operator_address=address,
        treasury=clients[0].treasury(),
        instruments=listed,
        params=rules,
    )
    genesis = init_data_dir(directory, chosen, time.time_ns() // 1_000, config, publishers)
    addresses = [spec.address for spec in genesis.vaults]
    return {"directory": directory, "deployment": genesis.deployment, "vault": addresses[0], "vaults": addresses}


def _config(rpcs: tuple[str, ...], confirmations: str) -> "Config":
    """One vault with one endpoint in the short form, others as [[vaults]]. Raises `NovateError` CONFIG_INVALID."""
    from clearing.service.config import Config, VaultConfig, endpoints, validate

    blocks: int | str = int(confirmations) if confirmations.isdecimal() else confirmations
    listed = [endpoints(rpc) for rpc in rpcs]
    if len(listed) == 1 and len(listed[0]) == 1:
        return validate(Config(rpc_url=listed[0][0], confirmations=blocks))
    return validate(Config(vaults=tuple(VaultConfig(urls, blocks) for urls in listed)))


def _require_alike(clients: "list[VaultClient]", operator_address: bytes, directory: Path) -> None:
    """All vaults of one deployment, one treasury, and our key. Raises `click.UsageError`."""
    first = clients[0]
    for client in clients:
        if client.operator() != operator_address:
            raise click.UsageError(
                f"the operator of vault 0x{client.address.hex()} is 0x{client.operator().hex()}, the key in "
                f"{directory} is 0x{operator_address.hex()}; deploy with: novate vault deploy --operator"
            )
        if client.deployment_id() != first.deployment_id() or client.treasury() != first.treasury():
            raise click.UsageError(
                f"vault 0x{client.address.hex()} has another deployment id or treasury than the first; "
                "deploy every vault of a venue with the same --deployment and --treasury"
            )


def _vault_of(client: "VaultClient") -> "Vault":
    """What genesis says of a vault, as its contract does."""
    from clearing.model.commands import Vault

    governor = client.governor()
    return Vault(
        client.rpc.chain_id(),
        client.address,
        tuple(client.tokens()),
        tuple(client.attestors()),
        client.threshold(),
        b"" if governor == bytes(20) else governor,
    )


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
@run_options
@click.option(
    "--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the port here once it serves."
)
@reports_errors
def run(
    directory: Path,
    host: str | None,
    port: int | None,
    private_port: int | None,
    rpcs: tuple[str, ...],
    epoch_seconds: int | None,
    log_json: bool | None,
    port_file: Path | None,
) -> None:
    """Run sequencer, HTTP interface, chain intake and epoch poster over DIRECTORY, until SIGTERM.

    Metrics, probes and the operator's figures are served on a private port of their own (default 127.0.0.1:8641).
    """
    from clearing.service.node import run_operator

    chosen: dict[str, Any] = {"private_port": private_port, "log_json": log_json}
    raise SystemExit(run_operator(directory, host, port, rpcs, epoch_seconds, port_file, **chosen))


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
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet
    from clearing.model.commands import RotateOperator
    from clearing.model.signature import public_key_of
    from clearing.service.layout import Layout, ensure_key

    folder = Layout(directory).keys
    readers = _vaults_of(directory, client)
    olds = [_wallet_of(folder, reader.operator()) for reader in readers]
    new = Wallet(ensure_key(folder / f"operator-{stamp}.secp256k1"))
    seed = ensure_key(folder / f"operator-{stamp}.ed25519")
    seq = _submit_as_operator(directory, client, stamp, RotateOperator(public_key_of(seed), new.address))
    transactions: list[bytes] = []
    try:
        for reader, old in zip(readers, olds, strict=True):
            transactions.append(VaultClient(reader.rpc, reader.address, old).rotate_operator(new.address).tx_hash)
        # Once per chain, and only after the last transaction that the old address pays for there.
        payers = {
            (reader.rpc.chain_id(), old.address): (reader.rpc, old) for reader, old in zip(readers, olds, strict=True)
        }
        moved = sum(_move_gas_money(rpc, old, new.address) for rpc, old in payers.values())
    except ChainError as error:
        told = f"the journal has rotated, a vault may not have; run the same command again ({error.message})"
        raise ChainError(error.code, told) from None
    return {
        "seq": seq,
        "operator_key": public_key_of(seed),
        "operator_address": new.address,
        "transaction": transactions[0] if transactions else None,
        "transactions": ["0x" + tx_hash.hex() for tx_hash in transactions],
        "gas_money_moved_wei": moved,
    }


def _vaults_of(directory: Path, client: "ApiClient") -> "list[VaultClient]":
    """The live vaults of genesis at the endpoints that config.toml names. Raises `NovateError` NO_CHAIN,
    `ChainError`."""
    from clearing.cli.sources import genesis_of
    from clearing.model.errors import NovateError
    from clearing.service.config import load
    from clearing.service.links import connect

    config = load(directory)
    found = []
    for number, spec in enumerate(genesis_of(None, client.url).vaults):
        reader = connect(config.vault(number), spec.address)
        if reader is None:
            raise NovateError("NO_CHAIN", f"vault {number} has no endpoint; name its rpc_urls in config.toml")
        if not reader.frozen():
            found.append(reader)
    return found


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

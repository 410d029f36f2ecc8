# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate params`: the governed parameter set: show it, try a change against the hard bounds, propose it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import click
import msgspec

from clearing.cli.markets import _data
from clearing.cli.member import show_receipt
from clearing.cli.options import api_option, json_option
from clearing.cli.output import emit, moment, reports_errors
from clearing.model.errors import NovateError

if TYPE_CHECKING:
    from clearing.client.http import ApiClient
    from clearing.model.params import Instrument, Params

_MANY = 12
_set = click.option("--set", "changes", multiple=True, required=True, metavar="PATH=NUMBER", help="Repeatable.")


@click.group()
def params() -> None:
    """Governed parameters: show, check and propose."""


def named(value: Any) -> Any:
    """A parameter struct as nested dictionaries by field name."""
    if isinstance(value, msgspec.Struct):
        return {name: named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [named(item) for item in value]
    return value


def unnamed(kind: Any, value: Any, default: Any, path: str = "params") -> Any:
    """The reverse of `named`; what a dictionary leaves out is as in `default`.

    Raises `NovateError` PARAMS_FILE_INVALID naming the path.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict) or not set(value) <= set(kind.__struct_fields__):
            raise NovateError("PARAMS_FILE_INVALID", f"{path} holds some of {', '.join(kind.__struct_fields__)}")
        hints = get_type_hints(kind)
        given = {
            name: unnamed(hints[name], item, getattr(default, name, None), f"{path}.{name}")
            for name, item in value.items()
        }
        try:
            return kind(**given) if default is None else msgspec.structs.replace(default, **given)
        except TypeError as error:
            raise NovateError("PARAMS_FILE_INVALID", f"{path}: {error}") from None
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise NovateError("PARAMS_FILE_INVALID", f"{path} is a list")
        item_kind = get_args(kind)[0]
        return tuple(unnamed(item_kind, item, None, f"{path}.{index}") for index, item in enumerate(value))
    if type(value) is not kind:
        raise NovateError("PARAMS_FILE_INVALID", f"{path} is {value!r}; it must be of type {kind.__name__}")
    return value


def read_params(path: Path, default: "Params | None" = None) -> "Params":
    """Parameters from a JSON file as `novate params show --json` prints them; `default` for what is left out.

    Raises `NovateError` PARAMS_FILE_INVALID.
    """
    from clearing.model.params import Params

    try:
        tree = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NovateError("PARAMS_FILE_INVALID", f"{path} is not JSON: {error}") from None
    if isinstance(tree, dict) and "params_hash" in tree:
        tree = tree.get("params")
    found: Params = unnamed(Params, tree, default or Params())
    return found


def changed(value: Any, path: list[str], number: int) -> Any:
    """`value` with the integer at `path` replaced. Raises `NovateError` UNKNOWN_PARAMETER."""
    if not path:
        if isinstance(value, bool) or not isinstance(value, int):
            raise NovateError("UNKNOWN_PARAMETER", "the path names a group or a text; name one number in it")
        return number
    head, rest = path[0], path[1:]
    if isinstance(value, tuple) and head.isdecimal() and int(head) < len(value):
        index = int(head)
        return (*value[:index], changed(value[index], rest, number), *value[index + 1 :])
    if isinstance(value, msgspec.Struct) and head in value.__struct_fields__:
        return msgspec.structs.replace(value, **{head: changed(getattr(value, head), rest, number)})
    raise NovateError("UNKNOWN_PARAMETER", f"no parameter {head!r} here; `novate params show` lists them")


def in_force(client: "ApiClient") -> "tuple[Params, tuple[Instrument, ...]]":
    """Parameters and instruments as the operator serves them. Raises `ApiError`."""
    from clearing.model.params import Instrument, Params

    found = client.params()
    decode = msgspec.msgpack.decode
    raw = decode(bytes.fromhex(str(found["raw"])[2:]), type=tuple[Params, tuple[Instrument, ...]])
    return raw


def _apply(current: "Params", changes: tuple[str, ...]) -> "Params":
    new: Any = msgspec.structs.replace(current, version=current.version + 1)
    for change in changes:
        path, _, number = change.partition("=")
        digits = number.replace("_", "").removeprefix("-")
        if not path or not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
            raise click.UsageError(f"{change!r} is not PATH=NUMBER, such as ladder.cooldown_us=60_000_000")
        try:
            new = changed(new, path.split("."), int(number.replace("_", "")))
        except NovateError as error:
            raise NovateError(error.code, f"{path}: {error.message}") from None
    result: Params = new
    return result


@params.command("show")
@click.argument("path", default="")
@api_option
@json_option
@reports_errors
def show(path: str, api: str, as_json: bool) -> None:
    """Show the parameters in force (under PATH, such as ladder), their hash, and a proposal that waits.

    Units: _ppm are parts per million, _us microseconds, _atoms 1e-6 of the settlement asset; the numbers of
    presets, and vols, rates and size_factor anywhere, are 1e-12.
    """
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        found = client.params()
        current, _ = in_force(client)
    tree = named(current)
    lines = [f"version {current.version}, hash {found['params_hash']}"]
    if found["pending"] is not None:
        pending = found["pending"]
        lines.append(
            f"proposed: version {pending['version']}, from the first epoch after {moment(pending['effective_us'])}"
        )
    rows = [line for name, value in tree.items() for line in _lines(name, value, path)]
    if path:
        rows = [line for line in rows if f"{line.split()[0]}.".startswith(f"{path}.")]
        if not rows:
            raise NovateError("UNKNOWN_PARAMETER", f"no parameter {path!r}; `novate params show` lists them")
    lines += rows
    emit({key: found[key] for key in ("version", "params_hash", "pending")} | {"params": tree}, as_json, lines)


def _lines(path: str, value: Any, wanted: str) -> list[str]:
    if isinstance(value, dict):
        return [line for name, item in value.items() for line in _lines(f"{path}.{name}", item, wanted)]
    if isinstance(value, list):
        if len(value) > _MANY and not f"{wanted}.".startswith(f"{path}."):
            return [f"  {path} = {len(value)} rows, shown by `novate params show {path}`"]
        return [line for index, item in enumerate(value) for line in _lines(f"{path}.{index}", item, wanted)]
    if isinstance(value, bool):
        return [f"  {path} = {str(value).lower()}"]
    return [f"  {path} = {value:_}" if isinstance(value, int) else f"  {path} = {value or '(none)'}"]


def _changed(client: "ApiClient", changes: tuple[str, ...]) -> "tuple[Params, tuple[Instrument, ...]]":
    """The parameters with `changes`, within bounds, and the instruments. Raises `NovateError` INVALID_PARAMS."""
    from clearing.model.bounds import validate

    current, instruments = in_force(client)
    new = _apply(current, changes)
    validate(new, instruments, [len(vault["tokens"]) for vault in client.genesis()["genesis"]["vaults"]])
    return new, instruments


@params.command("check")
@_set
@api_option
@json_option
@reports_errors
def check(changes: tuple[str, ...], api: str, as_json: bool) -> None:
    """Try changes against the hard bounds; nothing is submitted."""
    from clearing.client.http import ApiClient
    from clearing.model.params import params_hash

    with ApiClient(api) as client:
        new, instruments = _changed(client, changes)
    digest = "0x" + params_hash(new, instruments).hex()
    emit({"version": new.version, "params_hash": digest}, as_json, [f"within bounds; its hash would be {digest}"])


@params.command("propose")
@_set
@click.option("--in-hours", type=click.IntRange(0, 8_760), help="Effective then; by default after the notice period.")
@_data
@api_option
@json_option
@reports_errors
def propose(changes: tuple[str, ...], in_hours: int | None, directory: Path, api: str, as_json: bool) -> None:
    """Propose changes by a journalled command; in force from the first epoch after notice."""
    from clearing.cli.signing import submit_as_operator
    from clearing.client.http import ApiClient
    from clearing.model.commands import ProposeParams

    with ApiClient(api) as client:
        new, _ = _changed(client, changes)
        current, _ = in_force(client)
        now = time.time_ns() // 1_000
        # A minute more than was asked for, since the command is journalled a little later than now.
        wait = 60_000_000 + (current.notice_us if in_hours is None else in_hours * 3_600_000_000)
        show_receipt(submit_as_operator(directory, client, ProposeParams(new, now + wait)), as_json)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signed an envelope: Ed25519 for session, publisher and operator keys; EIP-712 for wallets.

Verification needs no state, so it runs in parallel and ahead of the reducer, which alone decides
whether the key is live. Ed25519 is libsodium's rule everywhere, since libraries differ on
edge-case signatures. eth-account is slow to import and to recover, so it is loaded on first use.
"""

import sys
from typing import Any

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.commands import Body, Envelope, OwnerAction, RegisterKey, RevokeKey
from clearing.model.errors import Refused

CONTEXT = b"novate/envelope/v1\n"
# py-evm needs 12,288; at 20,000 input that is nested as deeply still fits the C stack of a thread.
_HIGHEST_RECURSION_LIMIT = 20_000
_open = bindings.crypto_sign_open
_sign = bindings.crypto_sign

OWNER_TYPES: dict[str, list[dict[str, str]]] = {
    "RegisterKey": [
        {"name": "owner", "type": "address"},
        {"name": "key", "type": "bytes"},
        {"name": "scope", "type": "uint64"},
        {"name": "expiryUs", "type": "uint64"},
        {"name": "nonce", "type": "uint64"},
        {"name": "secret", "type": "bytes32"},
    ],
    "RevokeKey": [
        {"name": "owner", "type": "address"},
        {"name": "key", "type": "bytes"},
        {"name": "nonce", "type": "uint64"},
    ],
}


def typed_data(deployment: bytes, action: RegisterKey | RevokeKey) -> dict[str, Any]:
    """EIP-712 typed data a wallet signs; the domain's salt is the deployment id."""
    message: dict[str, Any] = {
        "owner": "0x" + action.owner.hex(),
        "key": action.key,
        "nonce": action.nonce,
    }
    name = type(action).__name__
    if isinstance(action, RegisterKey):
        message |= {
            "scope": action.scope,
            "expiryUs": action.expiry_us,
            "secret": action.secret,
        }
    domain_types = [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "salt", "type": "bytes32"},
    ]
    return {
        "types": {"EIP712Domain": domain_types, name: OWNER_TYPES[name]},
        "primaryType": name,
        "domain": {"name": "Novate", "version": "1", "salt": deployment},
        "message": message,
    }


def key_of(public_key: bytes) -> bytes:
    """Tagged form of an Ed25519 public key (33 bytes)."""
    return bytes([ids.KEY_ED25519]) + public_key


def public_key_of(seed: bytes) -> bytes:
    """Tagged public key (33 bytes) of a 32-byte Ed25519 seed."""
    return key_of(bindings.crypto_sign_seed_keypair(seed)[0])


def eth_account() -> Any:
    """The package of that name, for everyone who needs it.

    py_ecc below it raises the interpreter's recursion limit to 100,000, at which nested input from a stranger
    overflows the C stack and ends the process. So the limit is put back; a thread that finds it raised by another's
    import puts it below that.
    """
    limit = min(sys.getrecursionlimit(), _HIGHEST_RECURSION_LIMIT)
    import eth_account.messages

    if sys.getrecursionlimit() > limit:
        sys.setrecursionlimit(limit)
    return eth_account


def sign(body: Body, seed: bytes) -> bytes:
    """Envelope bytes of `body` signed by a 32-byte Ed25519 seed."""
    public, secret = bindings.crypto_sign_seed_keypair(seed)
    raw = encode(body)
    return encode(Envelope(raw, key_of(public), _sign(CONTEXT + raw, secret)[:64]))


def sign_owner(deployment: bytes, action: RegisterKey | RevokeKey, private_key: bytes) -> bytes:
    """Envelope bytes of an owner action signed by a 32-byte secp256k1 key."""
    account = eth_account().Account
    signed = account.sign_typed_data(private_key, full_message=typed_data(deployment, action))
    address = bytes.fromhex(account.from_key(private_key).address[2:])
    key = bytes([ids.KEY_SECP256K1]) + address
    return encode(Envelope(encode(OwnerAction(deployment, action)), key, bytes(signed.signature)))


def verify(envelope: Envelope, body: Body) -> None:
    """Check the signature. Raises `Refused` BAD_SIGNATURE or UNSUPPORTED_KEY."""
    if isinstance(body, OwnerAction):
        _verify_wallet(envelope, body)
        return
    key = envelope.key
    if len(key) != 33 or key[0] != ids.KEY_ED25519:
        raise Refused("UNSUPPORTED_KEY", "the key must be 0x01 followed by a 32-byte Ed25519 key")
    if len(envelope.signature) != 64:
        raise Refused("BAD_SIGNATURE", "an Ed25519 signature has 64 bytes")
    try:
        _open(envelope.signature + CONTEXT + envelope.body, key[1:])
    except (BadSignatureError, CryptoError, ValueError):
        raise Refused(
            "BAD_SIGNATURE",
            "the signature does not match body and key; sign the exact bytes",
        ) from None


def _verify_wallet(envelope: Envelope, body: OwnerAction) -> None:
    package = eth_account()
    key = envelope.key
    if len(key) != 21 or key[0] != ids.KEY_SECP256K1 or key[1:] != body.action.owner:
        raise Refused(
            "UNSUPPORTED_KEY",
            "an owner action is signed by the owner's wallet (0x02 + address)",
        )
    signature = envelope.signature
    # One form per signature: 65 bytes, v 27/28, low s (EIP-2), so that bytes are not malleable.
    half_order = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    if len(signature) != 65 or signature[64] not in (27, 28) or int.from_bytes(signature[32:64], "big") > half_order:
        raise Refused(
            "BAD_SIGNATURE",
            "a wallet signature has 65 bytes, v of 27 or 28 and a low s",
        )
    try:
        message = package.messages.encode_typed_data(full_message=typed_data(body.deployment, body.action))
        signer = package.Account.recover_message(message, signature=signature)
    except Exception as error:  # noqa: BLE001 - eth-account raises many kinds on hostile input
        raise Refused("BAD_SIGNATURE", f"cannot recover a signer: {type(error).__name__}") from None
    if bytes.fromhex(signer[2:]) != body.action.owner:
        raise Refused("BAD_SIGNATURE", f"signed by {signer}, not by the owner; check the wallet")

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Evidence, InvalidVoucherSignature, WrongVoucherDomain} from "./Evidence.sol";
import {Voucher} from "./Structs.sol";
import {Vetoes} from "./Vetoes.sol";

/// @title A state channel between operator and owner: money before the epoch that carries it is final
/// @dev Both sign how much was promised in all; the highest such figure wins, and an older one adds nothing.
/// It is paid from a float that the operator funded, never from the holdings, and later claims or the
/// escape of that owner repay the float first. So it is the operator's risk alone, and it is capped per hour.
abstract contract Vouchers is Vetoes {
    struct Advance {
        uint96 total;
        uint96 repaid;
    }

    struct Float {
        uint128 amount;
        uint64 hour; // number of the hour (UTC) that `spent` is about
        uint96 spent;
    }

    mapping(uint8 asset => Float) private _floats;
    mapping(uint8 asset => uint96 atoms) private _caps;
    mapping(address owner => mapping(uint8 asset => Advance)) private _advances;

    event FloatFunded(uint8 indexed asset, address indexed payer, uint128 amount);
    event FloatWithdrawn(uint8 indexed asset, uint128 amount);
    event VoucherRedeemed(address indexed owner, uint8 indexed asset, uint128 amount, uint128 cumulative);
    event AdvanceRepaid(address indexed owner, uint8 indexed asset, uint128 amount);

    /// @notice A voucher of at least this much was redeemed before.
    error StaleVoucher(uint128 cumulative, uint128 redeemed);
    /// @notice The voucher's time is over; ask for a new one.
    error VoucherExpired(uint64 expiry);
    /// @notice The operator's float holds less; claim when the epoch is final instead.
    error FloatTooLow(uint8 asset, uint256 amount, uint256 held);
    /// @notice This hour's payouts would pass their limit; try again in the next hour.
    error OutflowCapped(uint8 asset, uint256 amount, uint256 left);

    constructor(uint96[] memory caps) {
        if (caps.length != lanes) revert InvalidConfiguration("floatCaps");
        for (uint8 a = 0; a < lanes; ++a) _caps[a] = caps[a];
    }

    /// @notice Adds the sender's atoms to the float.
    function fundFloat(uint8 asset, uint128 amount) external nonReentrant {
        if (asset >= lanes) revert UnknownAsset(asset);
        if (amount == 0) revert ZeroAmount();
        _floats[asset].amount += amount;
        emit FloatFunded(asset, msg.sender, amount);
        _pull(asset, msg.sender, amount);
    }

    /// @notice Pays the operator's own float back to the treasury, at any time.
    function withdrawFloat(uint8 asset, uint128 amount) external nonReentrant {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        if (asset >= lanes) revert UnknownAsset(asset);
        _takeFloat(asset, amount);
        emit FloatWithdrawn(asset, amount);
        _send(asset, treasury, amount);
    }

    /// @notice Pays the owner, whoever submits, what the voucher adds to those redeemed before.
    /// @dev The signatures are the owner's and the operator's over EIP-712 Voucher, of an account or an ERC-1271 wallet.
    function redeemVoucher(
        Voucher calldata v,
        bytes calldata, /* ownerSignature */
        bytes calldata /* operatorSignature */
    ) external nonReentrant {
        if (frozen()) revert VaultFrozen();
        if (v.asset >= lanes) revert UnknownAsset(v.asset);
        if (v.expiry < block.timestamp) revert VoucherExpired(v.expiry);
        Advance storage advance = _advances[v.owner][v.asset];
        if (v.cumulative <= advance.total) revert StaleVoucher(v.cumulative, advance.total);
        _examine(Evidence.redeemVoucher.selector);
        uint128 amount = v.cumulative - advance.total;
        _spend(v.asset, amount); // bounds the cumulative below 2^96 with the cap
        advance.total += uint96(amount);
        _setAdvanced(v.owner, v.asset);
        emit VoucherRedeemed(v.owner, v.asset, amount, v.cumulative);
        _send(v.asset, v.owner, amount);
    }

    /// @notice Atoms that vouchers can still be paid from.
    function floatOf(uint8 asset) external view returns (uint128) {
        return _floats[asset].amount;
    }

    /// @notice Atoms that vouchers may pay per hour.
    function floatCap(uint8 asset) external view returns (uint96) {
        return _caps[asset];
    }

    /// @notice Atoms that vouchers paid the owner in all, and what of it claims and escapes repaid.
    function advancedOf(address owner, uint8 asset) external view returns (uint96 total, uint96 repaid) {
        Advance memory advance = _advances[owner][asset];
        return (advance.total, advance.repaid);
    }

    /// @dev What is left of `due` for the owner once the float has back what it advanced.
    function _repayAdvance(address owner, uint8 asset, uint256 due) internal returns (uint256) {
        if (due == 0 || !_advanced(owner, asset)) return due;
        Advance storage advance = _advances[owner][asset];
        uint256 part = advance.total - advance.repaid;
        if (part > due) part = due;
        if (part == 0) return due;
        advance.repaid += uint96(part);
        _floats[asset].amount += uint128(part);
        emit AdvanceRepaid(owner, asset, uint128(part));
        return due - part;
    }

    function _spend(uint8 asset, uint128 amount) private {
        Float storage f = _floats[asset];
        uint64 hour = uint64(block.timestamp / 1 hours);
        uint256 spent = f.hour == hour ? f.spent : 0;
        uint256 left = _caps[asset] > spent ? _caps[asset] - spent : 0;
        if (amount > left) revert OutflowCapped(asset, amount, left);
        f.hour = hour;
        f.spent = uint96(spent + amount);
        _takeFloat(asset, amount);
    }

    function _takeFloat(uint8 asset, uint128 amount) private {
        uint128 held = _floats[asset].amount;
        if (amount > held) revert FloatTooLow(asset, amount, held);
        _floats[asset].amount = held - amount;
    }
}

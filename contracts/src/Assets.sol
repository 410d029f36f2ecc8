// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title The vault's tokens, what it holds of each, and how it pays
/// @dev Internal accounting: `holdings` grows by deposits and shrinks by payouts and nothing else, so a
/// donation changes nothing. A payout that fails becomes credit of its owner: it blocks nobody else.
abstract contract Assets is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 internal constant MAX_LANES = 4;
    /// @dev A token that burns all gas it gets must not stop the payment of another asset.
    uint256 private constant TRANSFER_GAS = 200_000;
    /// @dev What must be left so that the call gets TRANSFER_GAS (63/64 rule) and we can finish after it.
    uint256 private constant GAS_FOR_PAYMENT = 240_000;

    /// @notice Number of assets: 1 to 4.
    uint8 public immutable lanes;
    address private immutable _token0;
    address private immutable _token1;
    address private immutable _token2;
    address private immutable _token3;

    uint128[MAX_LANES] private _holdings;
    mapping(address owner => uint256[2] words) private _ledger; // see _claimed
    mapping(address owner => uint256[MAX_LANES] atoms) private _credit;

    uint256 private constant CLAIMED_BITS = 96;
    uint256 private constant KNOWN = 1 << 192;
    uint256 private constant ESCAPED = 1 << 193;
    uint256 private constant ADVANCED = 1 << 194;

    event Credited(address indexed owner, uint8 indexed asset, uint128 amount);
    event CreditWithdrawn(address indexed owner, uint8 indexed asset, uint256 amount);

    /// @notice 1 to 4 distinct contracts are needed; `token` is none, or comes twice.
    error InvalidToken(address token);
    /// @notice The vault has fewer assets than that.
    error UnknownAsset(uint8 asset);
    /// @notice The token moved another amount than asked: fee-on-transfer and rebasing tokens are refused.
    error TransferAmountMismatch(uint8 asset, uint256 expected, uint256 received);
    /// @notice There is no credit to withdraw.
    error NoCredit(address owner, uint8 asset);
    /// @notice The payment is more than the vault holds: a finalised header promised what is not there.
    error InsufficientHoldings(uint8 asset, uint256 amount, uint256 held);
    /// @notice Send more gas: with so little a payment might fail that should not.
    error InsufficientGas();

    constructor(address[] memory tokens_) {
        if (tokens_.length == 0 || tokens_.length > MAX_LANES) revert InvalidToken(address(0));
        for (uint256 i = 0; i < tokens_.length; ++i) {
            if (tokens_[i].code.length == 0) revert InvalidToken(tokens_[i]);
            for (uint256 j = 0; j < i; ++j) {
                if (tokens_[j] == tokens_[i]) revert InvalidToken(tokens_[i]);
            }
        }
        lanes = uint8(tokens_.length);
        _token0 = tokens_[0];
        _token1 = tokens_.length > 1 ? tokens_[1] : address(0);
        _token2 = tokens_.length > 2 ? tokens_[2] : address(0);
        _token3 = tokens_.length > 3 ? tokens_[3] : address(0);
    }

    /// @notice Token contracts by asset number.
    function tokens() external view returns (address[] memory list) {
        list = new address[](lanes);
        for (uint8 a = 0; a < lanes; ++a) list[a] = _token(a);
    }

    /// @notice Atoms of deposits not yet paid out. Credit and donations lie outside.
    function holdings(uint8 asset) public view returns (uint128) {
        if (asset >= lanes) revert UnknownAsset(asset);
        return _holdings[asset];
    }

    /// @notice Atoms paid to (or credited to) the owner so far under claims and escapes.
    function claimedOf(address owner, uint8 asset) external view returns (uint128) {
        if (asset >= lanes) revert UnknownAsset(asset);
        return uint128(_claimed(owner, asset));
    }

    /// @notice Atoms whose transfer failed; withdrawCredit tries again.
    function credit(address owner, uint8 asset) external view returns (uint256) {
        if (asset >= lanes) revert UnknownAsset(asset);
        return _credit[owner][asset];
    }

    /// @notice Whether the owner has escaped.
    function escaped(address owner) public view returns (bool) {
        return _ledger[owner][0] & ESCAPED != 0;
    }

    /// @notice Pays the owner's credit to the owner, whoever submits. Reverts if the token still refuses.
    function withdrawCredit(uint8 asset, address owner) external nonReentrant {
        if (asset >= lanes) revert UnknownAsset(asset);
        uint256 amount = _credit[owner][asset];
        if (amount == 0) revert NoCredit(owner, asset);
        _credit[owner][asset] = 0;
        emit CreditWithdrawn(owner, asset, amount);
        IERC20(_token(asset)).safeTransfer(owner, amount);
    }

    function _token(uint8 asset) internal view returns (address) {
        if (asset == 0) return _token0;
        if (asset == 1) return _token1;
        return asset == 2 ? _token2 : _token3;
    }

    /// @dev Takes exactly `amount` from `payer` into the holdings, or reverts.
    function _collect(uint8 asset, address payer, uint128 amount) internal {
        _pull(asset, payer, amount);
        _holdings[asset] += amount;
    }

    /// @dev Takes exactly `amount` from `payer` or reverts; the caller books it.
    function _pull(uint8 asset, address payer, uint128 amount) internal {
        IERC20 token = IERC20(_token(asset));
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(payer, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert TransferAmountMismatch(asset, amount, received);
    }

    /// @dev First half of a payment (effects): the amount leaves the vault's holdings.
    function _release(uint8 asset, uint256 amount) internal {
        uint256 held = _holdings[asset];
        if (amount > held) revert InsufficientHoldings(asset, amount, held);
        unchecked {
            _holdings[asset] = uint128(held - amount);
        }
    }

    /// @dev Second half (interaction): sends what was released, or credits it if the token refuses.
    function _send(uint8 asset, address to, uint256 amount) internal {
        if (gasleft() < GAS_FOR_PAYMENT) revert InsufficientGas();
        if (_tryTransfer(_token(asset), to, amount)) return;
        _credit[to][asset] += amount;
        emit Credited(to, asset, uint128(amount));
    }

    /// @dev The owner's cumulative counters: two 96-bit lanes a word, so that a second asset costs no
    /// slot; leaves cannot exceed 96 bits since the vault's deposits cannot (see Inbox). A deposit marks
    /// the word of its lane, so that the depositor's first claim finds its slot already in use.
    function _claimed(address owner, uint8 asset) internal view returns (uint256) {
        return uint96(_ledger[owner][asset >> 1] >> (CLAIMED_BITS * (asset & 1)));
    }

    function _setClaimed(address owner, uint8 asset, uint256 value) internal {
        uint256 shift = CLAIMED_BITS * (asset & 1);
        uint256 word = _ledger[owner][asset >> 1];
        _ledger[owner][asset >> 1] = (word & ~(uint256(type(uint96).max) << shift)) | (value << shift);
    }

    /// @dev Whether anything was ever deposited for the owner.
    function _known(address owner) internal view returns (bool) {
        return (_ledger[owner][0] | _ledger[owner][1]) & KNOWN != 0;
    }

    function _setKnown(address owner, uint8 asset) internal {
        uint256 word = _ledger[owner][asset >> 1];
        if (word & KNOWN == 0) _ledger[owner][asset >> 1] = word | KNOWN;
    }

    function _setEscaped(address owner) internal {
        _ledger[owner][0] |= ESCAPED;
    }

    /// @dev Whether vouchers ever paid the owner something in a lane of this asset's word; kept beside the counters,
    /// so that whoever had no advance does not pay for looking.
    function _advanced(address owner, uint8 asset) internal view returns (bool) {
        return _ledger[owner][asset >> 1] & ADVANCED != 0;
    }

    function _setAdvanced(address owner, uint8 asset) internal {
        _ledger[owner][asset >> 1] |= ADVANCED;
    }

    /// @dev transfer(to, amount) that never reverts here: bounded gas, and at most one word of what it
    /// returns is copied. Nothing or `true` counts as success.
    function _tryTransfer(address token, address to, uint256 amount) private returns (bool ok) {
        bytes4 selector = IERC20.transfer.selector;
        uint256 gasLimit = TRANSFER_GAS;
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, selector)
            mstore(add(data, 4), to)
            mstore(add(data, 36), amount)
            ok := call(gasLimit, token, 0, data, 68, 0, 32)
            let silent := and(iszero(returndatasize()), gt(extcodesize(token), 0))
            ok := and(ok, or(silent, and(gt(returndatasize(), 31), eq(mload(0), 1))))
        }
    }
}

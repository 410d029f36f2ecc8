// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Epochs} from "./Epochs.sol";

/// @title Attestors' objections: one holds a header, n - k + 1 void it and freeze the vault
/// @dev A veto comes inside the header's window, with a bond. It holds that header, and so every later one, for
/// `secondingSeconds`. Seconded by enough attestors in all it is upheld: the bond goes back and the vault
/// freezes, so that the header never counts. Unseconded in time it lapses by itself: the bond is lost and the
/// header goes on. Objections to one header add up over several vetoes, and nobody counts twice. Nothing here
/// calls foreign code, so nothing needs a guard against reentrancy.
abstract contract Vetoes is Epochs {
    uint8 private constant OPEN = 1;
    uint8 private constant UPHELD = 2;
    uint8 private constant FAILED = 3;
    uint8 private constant FREEZE_VETO = 2;

    struct Veto {
        address by;
        uint64 time; // seconds UTC
        uint8 count; // attestors who object to this header
        uint8 state;
    }

    mapping(uint64 epoch => Veto) private _vetoes;
    mapping(uint64 epoch => mapping(address attestor => bool)) private _objected;
    mapping(address attestor => uint64 epoch) private _openOf;
    uint64[] private _open; // epochs of open vetoes: at most one of each attestor

    event VetoOpened(
        uint64 indexed epoch, bytes32 indexed headerHash, address indexed attestor, bytes32 evidence
    );
    event VetoSeconded(uint64 indexed epoch, address indexed attestor, uint8 count);
    event VetoUpheld(uint64 indexed epoch, bytes32 indexed headerHash);
    event VetoFailed(uint64 indexed epoch, address indexed attestor);

    /// @notice The header's challenge window is over.
    error WindowOver(uint64 epoch);
    /// @notice A veto of this header stands already: second it.
    error VetoStanding(uint64 epoch);
    /// @notice No veto of this header stands.
    error NoStandingVeto(uint64 epoch);
    /// @notice This attestor has objected to this header before.
    error AlreadyObjected(uint64 epoch, address attestor);
    /// @notice This attestor's veto of that epoch must be settled first.
    error VetoUnsettled(uint64 epoch);
    /// @notice The veto can still be seconded, until that time (seconds UTC).
    error SecondingNotOver(uint64 until);

    /// @notice Objects to a posted header inside its window, at the price of the bond if nobody seconds.
    /// @param evidence SHA-256 of what the attestor publishes as its reason.
    function veto(uint64 epoch, bytes32 headerHash_, bytes32 evidence) external payable {
        _requireObjector(epoch, headerHash_);
        _takeVetoBond();
        if (_windowOver(epoch)) revert WindowOver(epoch);
        Veto storage v = _vetoes[epoch];
        if (_stands(v)) revert VetoStanding(epoch);
        if (_openOf[msg.sender] != 0) revert VetoUnsettled(_openOf[msg.sender]);
        if (v.state == OPEN) _fail(epoch, v);
        v.by = msg.sender;
        v.time = uint64(block.timestamp);
        v.state = OPEN;
        _open.push(epoch);
        ++_status.openVetoes;
        _openOf[msg.sender] = epoch;
        emit VetoOpened(epoch, headerHash_, msg.sender, evidence);
        _object(epoch, headerHash_, v);
    }

    /// @notice Stands behind another attestor's veto. Needs no bond.
    function second(uint64 epoch, bytes32 headerHash_) external {
        _requireObjector(epoch, headerHash_);
        Veto storage v = _vetoes[epoch];
        if (!_stands(v)) revert NoStandingVeto(epoch);
        _object(epoch, headerHash_, v);
        emit VetoSeconded(epoch, msg.sender, v.count);
    }

    /// @notice Ends a veto that nobody seconded in time: its bond goes to the house. After a freeze, every
    /// open veto's bond goes back.
    function settleVeto(uint64 epoch) external {
        Veto storage v = _vetoes[epoch];
        if (v.state != OPEN) revert NoStandingVeto(epoch);
        if (frozen()) {
            _close(epoch, v, FAILED);
            _creditEther(v.by, vetoBondWei);
            return;
        }
        if (_stands(v)) revert SecondingNotOver(v.time + secondingSeconds);
        _fail(epoch, v);
    }

    /// @notice Who vetoed this epoch's header and when, how many object, and the state of it: 0 no veto, 1 open,
    /// 2 upheld, 3 failed.
    function vetoOf(uint64 epoch) external view returns (address by, uint64 time, uint8 count, uint8 state) {
        Veto memory v = _vetoes[epoch];
        return (v.by, v.time, v.count, v.state);
    }

    /// @notice The last epoch whose window is over and that no standing veto holds; zero if there is none.
    function finalisedEpoch() public view returns (uint64) {
        if (frozen()) return _status.escapeEpoch;
        uint64 held = _firstHeld();
        uint64 last = epochCount();
        return _lastOver(held <= last ? held - 1 : last);
    }

    /// @notice Block time (seconds UTC) from which this header is final as things stand; zero if it is not posted,
    /// or void since a freeze.
    function finalAt(uint64 epoch) external view returns (uint64 time) {
        time = headerTime(epoch);
        if (time == 0 || (frozen() && epoch > _status.escapeEpoch)) return 0;
        time += challengeWindowSeconds;
        for (uint256 i = 0; i < _open.length; ++i) {
            uint64 until = _vetoes[_open[i]].time + secondingSeconds;
            if (_open[i] <= epoch && until > time) time = until;
        }
    }

    /// @dev The first epoch that a standing veto holds; the highest number there is when none does.
    function _firstHeld() internal view returns (uint64 first) {
        first = type(uint64).max;
        for (uint256 i = 0; i < _open.length; ++i) {
            if (_open[i] < first && _stands(_vetoes[_open[i]])) first = _open[i];
        }
    }

    function _requireObjector(uint64 epoch, bytes32 headerHash_) private view {
        if (frozen()) revert VaultFrozen();
        _requireAttestor(msg.sender);
        if (headerHash_ == 0 || headerHash(epoch) != headerHash_) revert UnknownHeader(headerHash_);
        if (_objected[epoch][msg.sender]) revert AlreadyObjected(epoch, msg.sender);
    }

    function _object(uint64 epoch, bytes32 headerHash_, Veto storage v) private {
        _objected[epoch][msg.sender] = true;
        if (++v.count < vetoQuorum) return;
        _freeze(FREEZE_VETO); // while the veto stands, so that the escape header lies before it
        _close(epoch, v, UPHELD);
        _creditEther(v.by, vetoBondWei);
        emit VetoUpheld(epoch, headerHash_);
    }

    function _fail(uint64 epoch, Veto storage v) private {
        _close(epoch, v, FAILED);
        _creditEther(treasury, vetoBondWei);
        emit VetoFailed(epoch, v.by);
    }

    function _close(uint64 epoch, Veto storage v, uint8 state) private {
        v.state = state;
        _openOf[v.by] = 0;
        uint256 last = _open.length - 1;
        for (uint256 i = 0; i < last; ++i) {
            if (_open[i] == epoch) _open[i] = _open[last];
        }
        _open.pop();
        --_status.openVetoes;
    }

    function _stands(Veto memory v) private view returns (bool) {
        return v.state == OPEN && block.timestamp < v.time + secondingSeconds;
    }
}

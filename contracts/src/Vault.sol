// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assets} from "./Assets.sol";
import {Attestors} from "./Attestors.sol";
import {Bonds} from "./Bonds.sol";
import {Deployment} from "./Deployment.sol";
import {Epochs} from "./Epochs.sol";
import {Faults} from "./Faults.sol";
import {Inbox} from "./Inbox.sol";
import {Config} from "./Structs.sol";
import {Vouchers} from "./Vouchers.sol";

/// @title One chain's vault of a Novate clearinghouse: immutable, without an owner
/// @dev Composition only: Assets (tokens and payment), Inbox (deposits, forced requests, governance), Attestors
/// and Epochs (headers), Vetoes (objections), Vouchers (advances), Claims (withdrawals), Escape (freeze, escape,
/// refund), Faults (proofs against the operator), Bonds (ether at stake).
contract Vault is Faults {
    constructor(Config memory c)
        Assets(c.tokens)
        Deployment(c)
        Inbox(c.minFirstDeposit, c.maxDepositors)
        Attestors(c.attestors, c.threshold)
        Bonds(c.vetoBondWei, c.operatorBondWei)
        Epochs(c.operator)
        Vouchers(c.floatCaps)
    {}
}

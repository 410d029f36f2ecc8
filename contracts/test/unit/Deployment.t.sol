// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assets} from "../../src/Assets.sol";
import {Deployment} from "../../src/Deployment.sol";
import {Config} from "../../src/Structs.sol";
import {Formats} from "../base/Formats.sol";
import {World} from "../base/World.sol";

/// @title What is fixed at deployment, and what is refused there
contract DeploymentTest is World {
    function setUp() public {
        _build(3, 3, 2);
    }

    /// Every field of the constructor's struct is where a reader finds it.
    function test_viewsGiveTheConfiguration() public view {
        _eq(vault.deploymentId(), DEPLOYMENT, "deploymentId");
        _eq(vault.domain(), domain, "domain binds chain and vault");
        _eq(vault.operator(), operator, "operator");
        _eq(vault.treasury(), TREASURY, "treasury");
        _eq(vault.governor(), GOVERNOR, "governor");
        _eq(vault.deadlineSeconds(), DEADLINE, "deadline");
        _eq(vault.challengeWindowSeconds(), WINDOW, "window");
        _eq(vault.secondingSeconds(), SECONDING, "seconding");
        _eq(vault.deployedAt(), _now(), "deployedAt");
        _eq(vault.minFirstDeposit(), MIN_FIRST, "minFirstDeposit");
        _eq(vault.maxDepositors(), 1000, "maxDepositors");
        _eq(vault.vetoBondWei(), VETO_BOND, "vetoBond");
        _eq(vault.requiredBondWei(), OPERATOR_BOND, "requiredBond");
        _eq(vault.lanes(), 3, "lanes");
        address[] memory listed = vault.tokens();
        for (uint8 a = 0; a < 3; ++a) {
            _eq(listed[a], tokens[a], "tokens in order");
            _eq(vault.floatCap(a), FLOAT_CAP, "floatCap");
            _eq(vault.holdings(a), 0, "nothing held");
        }
    }

    /// The set of attestors, its hash, and that n - k + 1 of them void a header.
    function test_attestors() public {
        address[] memory list = vault.attestors();
        for (uint256 i = 0; i < 3; ++i) {
            _eq(list[i], _attestor(i), "attestors in order");
            _true(vault.isAttestor(list[i]), "isAttestor");
        }
        _true(!vault.isAttestor(address(this)), "a stranger is none");
        _eq(vault.threshold(), 2, "threshold");
        _eq(vault.vetoQuorum(), 2, "quorum");
        _eq(vault.attestorsHash(), Formats.attestors(2, list), "hash");
        _build(1, 0, 0);
        _eq(vault.attestorsHash(), bytes32(0), "no attestors, no hash");
        _eq(vault.vetoQuorum(), 1, "of none");
    }

    /// One to four lanes; lists are as long as there are lanes.
    function test_oneToFourAssets() public {
        for (uint256 count = 1; count <= 4; ++count) {
            _build(count, 1, 1);
            _eq(vault.lanes(), count, "lanes");
            _eq(vault.tokens().length, count, "tokens");
            _eq(vault.tokens()[count - 1], tokens[count - 1], "the last one");
        }
    }

    /// Each field that makes no sense is named by the error.
    function test_senselessConfigurations() public {
        Config memory c = _config(3, 2);
        c.deploymentId = 0;
        _named(c, "deploymentId");
        c = _config(3, 2);
        c.treasury = address(0);
        _named(c, "treasury");
        c = _config(3, 2);
        c.operator = address(0);
        _named(c, "operator");
        c = _config(3, 2);
        c.maxDepositors = 0;
        _named(c, "maxDepositors");
        c.maxDepositors = 1 << 20;
        _named(c, "maxDepositors");
        c = _config(3, 2);
        c.floatCaps = new uint96[](2);
        _named(c, "floatCaps");
    }

    /// A deadline shorter than window and seconding together would void headers that were in time.
    function test_senselessTimes() public {
        Config memory c = _config(3, 2);
        c.deadlineSeconds = 0;
        (c.challengeWindowSeconds, c.secondingSeconds) = (0, 0);
        _named(c, "deadlineSeconds");
        c.deadlineSeconds = 3650 days + 1;
        _named(c, "deadlineSeconds");
        c = _config(3, 2);
        c.deadlineSeconds = WINDOW + SECONDING - 1;
        _named(c, "deadlineSeconds");
        c.deadlineSeconds += 1;
        _eq(_refusedBy(c).length, 0, "just long enough");
        c.secondingSeconds = 3650 days + 1;
        _named(c, "secondingSeconds");
        c = _config(3, 2);
        c.challengeWindowSeconds = 3650 days + 1;
        _named(c, "challengeWindowSeconds");
    }

    /// Attestors ascend, none is zero, at most 16; the threshold is one to all of them, or zero of none.
    function test_senselessAttestors() public {
        Config memory c = _config(3, 4);
        _named(c, "threshold");
        c.threshold = 0;
        _named(c, "threshold");
        c = _config(0, 1);
        _named(c, "threshold");
        c = _config(17, 2);
        _named(c, "threshold");
        c = _config(16, 16);
        _eq(_refusedBy(c).length, 0, "sixteen of sixteen");
        c = _config(3, 2);
        (c.attestors[0], c.attestors[1]) = (c.attestors[1], c.attestors[0]);
        _named(c, "attestors");
        c.attestors[0] = c.attestors[1];
        _named(c, "attestors");
        c = _config(3, 2);
        c.attestors[0] = address(0);
        _named(c, "attestors");
    }

    /// No token, five, one twice, and one that is no contract.
    function test_senselessTokens() public {
        Config memory c = _config(3, 2);
        c.tokens = new address[](0);
        _token(c, address(0));
        c.tokens = new address[](5);
        _token(c, address(0));
        c = _config(3, 2);
        c.tokens[2] = c.tokens[0];
        _token(c, c.tokens[0]);
        c.tokens[2] = TREASURY;
        _token(c, TREASURY);
    }

    /// The vault and its library fit into what a chain takes, whatever the test runner would allow.
    function test_sizes() public view {
        _true(address(vault).code.length <= 24_576, "the vault's code");
        _true(vm.getDeployedCode("Evidence.sol:Evidence").length <= 24_576, "the library's code");
        _true(vm.getCode("Vault.sol:Vault").length <= 49_152, "the vault's creation code");
    }

    function _named(Config memory c, string memory field) private {
        bytes32 wanted = keccak256(abi.encodeWithSelector(Deployment.InvalidConfiguration.selector, field));
        _eq(keccak256(_refusedBy(c)), wanted, field);
    }

    function _token(Config memory c, address token) private {
        bytes32 wanted = keccak256(abi.encodeWithSelector(Assets.InvalidToken.selector, token));
        _eq(keccak256(_refusedBy(c)), wanted, "token");
    }
}

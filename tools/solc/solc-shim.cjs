#!/usr/bin/env node
// SPDX-License-Identifier: GPL-3.0-or-later
// A `solc` for Foundry: the pinned solc-js of contracts/node_modules, which needs no download and gives the same
// bytecode as tools/build_contracts.py. Answers --version and --standard-json, which is all that forge and slither ask;
// other arguments (--base-path, --allow-paths) mean nothing, since every source comes as text in the request.
"use strict";
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const { resolve } = require("node:path");

const contracts = resolve(__dirname, "..", "..", "contracts");
const solc = createRequire(`${contracts}/package.json`)("solc");

if (process.argv.includes("--version")) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (process.argv.includes("--standard-json")) {
  // Sources that a request names by path and not by text are read from there (slither asks so).
  const read = (path) => {
    try {
      return { contents: readFileSync(resolve(contracts, path), "utf8") };
    } catch (error) {
      return { error: String(error) };
    }
  };
  process.stdout.write(solc.compile(readFileSync(0, "utf8"), { import: read }));
} else {
  process.stderr.write("solc-shim: only --version and --standard-json are answered\n");
  process.exitCode = 1;
}

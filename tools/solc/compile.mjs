// SPDX-License-Identifier: GPL-3.0-or-later
// Reads solc standard JSON on stdin and writes solc's answer to stdout. The argument is the folder
// whose node_modules hold the pinned compiler; it is the only place code is loaded from.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.argv[2]}/package.json`);
const solc = require("solc");
const answer = JSON.parse(solc.compile(readFileSync(0, "utf8")));
answer.compilerVersion = solc.version();
process.stdout.write(JSON.stringify(answer));

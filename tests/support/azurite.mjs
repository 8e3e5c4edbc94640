// Runs one Azurite blob server of its own, unmodified, in memory, on a free port of 127.0.0.1.
//
//   node azurite.mjs [--log PATH] [--tls CERTIFICATE KEY]
//       prints {"url":…,"pid":…,"log":…} on one line, then serves until stdin closes.
//   node azurite.mjs [--log PATH] [--tls CERTIFICATE KEY] -- COMMAND ARG…
//       runs COMMAND with the AZTORCH_TEST_* variables below, then exits with its code.
//
// Any Node from 18 on runs this; Azurite runs on the one under target/node. AZTORCH_TEST_AZURITE names another folder
// under target/ that has an Azurite in it, such as azurite-3.35.
// With --tls it speaks https and takes tokens too; COMMAND trusts the certificate through SSL_CERT_FILE.
// The log gets one line per request (method, URL, status): request counts are taken from it.

import { spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { constants } from "node:os";
import { dirname, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const HOME = resolve(ROOT, "target", process.env.AZTORCH_TEST_AZURITE || "azurite");
const AZURITE = resolve(HOME, "node_modules/azurite/dist/src/blob/main.js");
const NODE = resolve(ROOT, `target/node/node_modules/node-linux-${process.arch}/bin/node`);
const START_LIMIT_MS = 60_000;

// Azurite's documented account: the same on every machine, so no secret.
const ACCOUNT = "devstoreaccount1";
const KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const SERVICE_VERSION = "2021-12-02";

// Azurite ends when the IPC channel to this process closes, so it also ends after a SIGKILL of this process.
const EXIT_WITH_PARENT = "data:text/javascript,process.on('disconnect',()=>process.exit())";

function parseArguments(argv) {
  let tls = null;
  const log = { path: resolve(ROOT, `target/azurite-logs/${process.pid}.log`) };
  for (let i = 0; i < argv.length; i += 1) {
    if (argv[i] === "--log" && i + 1 < argv.length) {
      log.path = resolve(argv[(i += 1)]);
    } else if (argv[i] === "--tls" && i + 2 < argv.length) {
      tls = { certificate: resolve(argv[i + 1]), key: resolve(argv[i + 2]) };
      i += 2;
    } else if (argv[i] === "--" && i + 1 < argv.length) {
      return { log: log.path, tls, command: argv.slice(i + 1) };
    } else {
      throw new Error("usage: azurite.mjs [--log PATH] [--tls CERTIFICATE KEY] [-- COMMAND ARG…]");
    }
  }
  return { log: log.path, tls, command: null };
}

async function startServer(log, tls) {
  for (const path of [AZURITE, NODE]) {
    if (!existsSync(path)) {
      throw new Error(`${path} is missing; run: make setup`);
    }
  }
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, "w");
  const args = ["--import", EXIT_WITH_PARENT, AZURITE];
  args.push("--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry");
  if (tls) {
    // Tokens are taken over https only; "basic" looks at their claims.
    args.push("--cert", tls.certificate, "--key", tls.key, "--oauth", "basic");
  }
  // A group of its own: Ctrl-C in a terminal must not end the server before the tests that use it.
  const server = spawn(NODE, args, {
    cwd: dirname(log),
    detached: true,
    stdio: ["ignore", output, output, "ipc"],
  });
  closeSync(output);
  server.ended = new Promise((done) => {
    server.once("error", done);
    server.once("exit", done);
  });
  try {
    return { server, url: await listeningUrl(server, log) };
  } catch (error) {
    await stop(server);
    throw error;
  }
}

async function listeningUrl(server, log) {
  const deadline = Date.now() + START_LIMIT_MS;
  for (;;) {
    const output = readFileSync(log, "utf8");
    const listening = /successfully listens on (https?:\/\/127\.0\.0\.1:\d+)\s/.exec(output);
    if (listening) {
      return `${listening[1]}/${ACCOUNT}`;
    }
    if (server.exitCode !== null || server.signalCode !== null || server.pid === undefined) {
      throw new Error(`Azurite ended before it listened:\n${output}`);
    }
    if (Date.now() > deadline) {
      throw new Error(`Azurite does not listen after ${START_LIMIT_MS / 1000} s:\n${output}`);
    }
    await sleep(20);
  }
}

async function stop(server) {
  // Its data is in memory only, so a gentler signal would save nothing.
  server.kill("SIGKILL");
  await server.ended;
}

function accountSas() {
  const expiry = "2099-01-01T00:00:00Z";
  const fields = { sp: "rwdlacup", ss: "b", srt: "sco", se: expiry, spr: "https,http", sv: SERVICE_VERSION };
  const toSign = [ACCOUNT, fields.sp, fields.ss, fields.srt, "", fields.se, "", fields.spr, fields.sv, "", ""];
  const sig = createHmac("sha256", Buffer.from(KEY, "base64")).update(toSign.join("\n"), "utf8").digest("base64");
  return new URLSearchParams({ ...fields, sig }).toString();
}

async function createContainer(url, tls) {
  const sas = accountSas();
  const container = `${url}/test-${randomUUID()}`;
  const options = { method: "PUT", headers: { "x-ms-version": SERVICE_VERSION, "content-length": 0 } };
  const request = tls
    ? https.request(`${container}?restype=container&${sas}`, { ...options, ca: readFileSync(tls.certificate) })
    : http.request(`${container}?restype=container&${sas}`, options);
  request.end();
  const [response] = await once(request, "response");
  const body = await text(response);
  if (response.statusCode !== 201) {
    throw new Error(`Azurite refused the container: ${response.statusCode} ${body}`);
  }
  return `${container}?${sas}`;
}

async function runCommand([program, ...args], url, log, tls) {
  const child = spawn(program, args, {
    stdio: "inherit",
    env: {
      ...process.env,
      ...(tls && { SSL_CERT_FILE: tls.certificate }),
      AZTORCH_TEST_ENDPOINT: url,
      AZTORCH_TEST_CONNECTION_STRING:
        `DefaultEndpointsProtocol=${tls ? "https" : "http"};AccountName=${ACCOUNT};AccountKey=${KEY};BlobEndpoint=${url};`,
      AZTORCH_TEST_CONTAINER_URL: await createContainer(url, tls),
      AZTORCH_TEST_LOG: log,
    },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => child.kill(signal));
  }
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("exit", (code, signal) => done(code ?? 128 + constants.signals[signal]));
  });
}

function untilToldToEnd() {
  return new Promise((done) => {
    process.stdin.on("end", done).on("error", done).resume();
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, done);
    }
  });
}

async function main() {
  const { log, tls, command } = parseArguments(process.argv.slice(2));
  // Registered before the server starts, so that an early end is not missed.
  const told = command ? null : untilToldToEnd();
  const { server, url } = await startServer(log, tls);
  let died = false;
  const serverDied = server.ended.then(() => {
    died = true;
  });
  try {
    if (command) {
      const code = await runCommand(command, url, log, tls);
      if (died) {
        throw new Error(`Azurite ended while the command ran; its output is in ${log}`);
      }
      return code;
    }
    process.stdout.write(`${JSON.stringify({ url, pid: server.pid, log })}\n`);
    await Promise.race([told, serverDied]);
    if (died) {
      throw new Error(`Azurite ended by itself; its output is in ${log}`);
    }
    return 0;
  } finally {
    await stop(server);
  }
}

main().then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`azurite.mjs: ${error.message}\n`);
    process.exit(1);
  },
);

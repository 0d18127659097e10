// TLS in the process, with the clients that people have: Node, Python, curl, openssl, Chromium. Certificates are of a CA of this test.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { X509Certificate, createHash } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import tls from "node:tls";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { startBrowser, watch } from "../browser/chromium.mjs";
import { VARIANTS, arrival, ask, client, settled } from "../js/lib/clients.mjs";
import { isReference } from "../js/lib/target.mjs";
import { collect, next, until, within } from "../js/lib/wait.mjs";

const run = promisify(execFile);
const CONFORMANCE = process.env.CONFORMANCE_BIN ?? "target/debug/examples/conformance";
const PYTHON = ".deps/venv/bin/python";
const skip = isReference && "the reference server speaks no TLS here";
const folder = mkdtempSync(path.join(tmpdir(), "shardcast-tls-clients-"));
const file = (name) => path.join(folder, name);

let server;

const openssl = (...args) => execFileSync("openssl", args, { stdio: "pipe" });

/** A certificate for `localhost` that the CA has signed, in place of the one that is there: each file is whole at any time. */
function renew(name = "localhost", host = "localhost") {
  writeFileSync(file("ext"), `subjectAltName=DNS:${host},IP:127.0.0.1\n`);
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", `/CN=${host}`, "-keyout", file("new.key"), "-out", file("new.csr"));
  openssl("x509", "-req", "-in", file("new.csr"), "-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-days", "2", "-extfile", file("ext"), "-out", file("new.pem"));
  renameSync(file("new.key"), file(`${name}.key`));
  renameSync(file("new.pem"), file(`${name}.pem`));
  return new X509Certificate(readFileSync(file(`${name}.pem`))).serialNumber;
}

function freePort() {
  return new Promise((resolve) => {
    const held = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = held.address();
      held.close(() => resolve(port));
    });
  });
}

/** A server with its certificates; `hup` has it read them again. */
async function start(settings = {}) {
  const port = await freePort();
  const env = {
    ...process.env, SHARDCAST_BIND: `127.0.0.1:${port}`, SHARDCAST_SHARDS: "2", NO_COLOR: "1", SHARDCAST_TLS_CERT: file("localhost.pem"),
    SHARDCAST_TLS_KEY: file("localhost.key"), SHARDCAST_CLIENT_BUNDLE: "tests/clients/js/node_modules/socket.io-client/dist", ...settings,
  };
  delete env.SHARDCAST_BIN;
  const child = spawn(CONFORMANCE, [], { stdio: ["ignore", "ignore", "pipe"], env });
  let log = "";
  child.stderr.on("data", (text) => { log += text; });
  await until("the server listens", () => new Promise((resolve) => {
    assert.equal(child.exitCode, null, log);
    net.connect(port, "127.0.0.1").on("connect", function () { this.destroy(); resolve(true); }).on("error", () => resolve(false));
  }));
  const stop = async () => {
    if (child.exitCode !== null) return;
    const ended = next(child, "exit", 15_000);
    child.kill("SIGTERM");
    await ended;
  };
  return { port, url: `https://localhost:${port}`, log: () => log, hup: () => child.kill("SIGHUP"), stop };
}

/** A TLS connection whose handshake is done. */
async function shake(port, options = {}) {
  const socket = tls.connect({ port, host: "127.0.0.1", servername: "localhost", ca: ca(), ...options });
  await within(10_000, "a TLS handshake", new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject)));
  return socket;
}

const ca = () => readFileSync(file("ca.pem"));

/** A request on a connection of its own, with the certificate that was shown for it. */
function get(url, options = {}) {
  return within(10_000, `GET ${url}`, new Promise((resolve, reject) => {
    https.get(url, { ca: ca(), agent: false, ...options }, (response) => {
      const serial = response.socket.getPeerCertificate().serialNumber;
      response.resume().on("end", () => resolve({ status: response.statusCode, serial }));
    }).on("error", reject);
  }));
}

before(async () => {
  if (isReference) return;
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a CA of a test", "-days", "2", "-keyout", file("ca.key"), "-out", file("ca.pem"));
  renew();
  renew("other", "other.example");
  server = await start({ SHARDCAST_TLS_CERT: `${file("localhost.pem")},${file("other.pem")}`, SHARDCAST_TLS_KEY: `${file("localhost.key")},${file("other.key")}` });
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe("stock clients", { skip }, () => {
  for (const [name, options] of Object.entries(VARIANTS)) {
    test(`socket.io-client by ${name}, with the CA`, async (t) => {
      const socket = await settled(t, server.url, { ...options, ca: ca() });
      for (const size of [1, 1000, 200_000]) {
        const text = "ż".repeat(size);
        assert.equal(await ask(socket, "message-with-ack", text), text);
      }
      const bytes = Buffer.alloc(300_000, 7);
      assert.deepEqual(await ask(socket, "message-with-ack", bytes), bytes);
    });

    test(`socket.io-client by ${name} without the CA does not connect`, async (t) => {
      await assert.rejects(arrival(client(t, server.url, options)), /xhr poll error|websocket error/);
    });
  }

  test("clients with TLS hear each other, whatever their transport", async (t) => {
    const all = await Promise.all(Object.values(VARIANTS).map((options) => settled(t, server.url, { ...options, ca: ca() })));
    const heard = all.map((socket) => collect(socket, "everyone"));
    all[0].emit("everyone", "a word");
    for (const each of heard) await each.reaches(1);
  });

  test("python-socketio with ssl, by polling and by WebSocket", async () => {
    const code = `
import sys, requests, socketio
for transports in (["polling"], ["websocket"], None):
    session = requests.Session(); session.verify = sys.argv[2]; session.trust_env = False
    client = socketio.Client(http_session=session, websocket_extra_options={"sslopt": {"ca_certs": sys.argv[2]}})
    client.connect(sys.argv[1], transports=transports, wait_timeout=10)
    text = "x" * 100000
    assert client.call("message-with-ack", text, timeout=10) == text
    print(client.transport())
    client.disconnect()
untrusting = socketio.Client()
try:
    untrusting.connect(sys.argv[1], transports=["polling"], wait_timeout=10)
except socketio.exceptions.ConnectionError:
    print("refused")
`;
    const { stdout } = await run(PYTHON, ["-c", code, server.url, file("ca.pem")], { timeout: 60_000 });
    assert.deepEqual(stdout.trim().split("\n"), ["polling", "websocket", "websocket", "refused"]);
  });

  test("curl, in both versions and without TLS", async () => {
    const url = `${server.url}/socket.io/?EIO=4&transport=polling`;
    for (const version of ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"]) {
      const { stdout } = await run("curl", ["-sS", "--max-time", "20", "--cacert", file("ca.pem"), ...version.split(" "), url]);
      assert.match(stdout, /^0\{"sid":/, version);
    }
    await assert.rejects(run("curl", ["-sS", "--max-time", "20", "--cacert", file("ca.pem"), "--tls-max", "1.1", url]), /curl: \(35\)/);
    const { stdout } = await run("curl", ["-sS", "--max-time", "20", `http://127.0.0.1:${server.port}/`]);
    assert.match(stdout, /This port speaks TLS: write https:\/\/ or wss:\/\//);
  });

  test("a page in Chromium, which trusts this key alone", async () => {
    const key = new X509Certificate(readFileSync(file("localhost.pem"))).publicKey.export({ type: "spki", format: "der" });
    const browser = await startBrowser({ args: [`--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`] });
    try {
      const page = await browser.context.newPage();
      const errors = watch(page);
      await page.goto(`${server.url}/`);
      await page.addScriptTag({ url: `${server.url}/socket.io/socket.io.js` });
      const transports = await page.evaluate(async () => {
        const reached = [];
        for (const options of [{ transports: ["polling"] }, { transports: ["websocket"] }, {}]) {
          const socket = io({ forceNew: true, reconnection: false, ...options });
          await new Promise((resolve, reject) => socket.on("connect", resolve).on("connect_error", reject));
          if (!options.transports) await new Promise((resolve) => socket.io.engine.on("upgrade", resolve));
          if (await socket.timeout(10_000).emitWithAck("message-with-ack", "hello") !== "hello") throw new Error("another answer");
          reached.push(socket.io.engine.transport.name);
          socket.close();
        }
        return [location.protocol, ...reached];
      });
      assert.deepEqual(transports, ["https:", "polling", "websocket", "websocket"]);
      assert.deepEqual(errors.filter((error) => !/404/.test(error)), []);
    } finally {
      await browser.stop();
    }
  });
});

describe("the protocol", { skip }, () => {
  test("the name chooses, ALPN is http/1.1, and a stranger's protocol is refused", async () => {
    const other = await shake(server.port, { servername: "other.example", ALPNProtocols: ["h2", "http/1.1"] });
    assert.equal(other.getPeerCertificate().subject.CN, "other.example");
    assert.equal(other.alpnProtocol, "http/1.1");
    other.destroy();
    await assert.rejects(shake(server.port, { ALPNProtocols: ["h2"] }), /alert no application protocol|no_application_protocol|ALPN/i);
    await assert.rejects(shake(server.port, { maxVersion: "TLSv1.1", minVersion: "TLSv1.1", ciphers: "DEFAULT:@SECLEVEL=0" }), /protocol version|unsupported|wrong version|handshake failure/i);
  });

  test("a session is resumed on any shard, in both versions", async () => {
    for (const version of ["TLSv1.2", "TLSv1.3"]) {
      let session;
      const held = [];
      for (let round = 0; round < 8; round++) {
        const socket = tls.connect({ port: server.port, host: "127.0.0.1", servername: "localhost", ca: ca(), session, minVersion: version, maxVersion: version });
        socket.on("session", (ticket) => { session = ticket; });
        await next(socket, "secureConnect");
        socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        await next(socket, "data");
        assert.equal(socket.isSessionReused(), round > 0, `${version}, round ${round}`);
        held.push(socket);
      }
      for (const socket of held) socket.destroy();
    }
  });

  test("renegotiation is refused, and no connection of others suffers", async () => {
    const child = spawn("openssl", ["s_client", "-tls1_2", "-connect", `127.0.0.1:${server.port}`, "-servername", "localhost", "-CAfile", file("ca.pem")]);
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { said += text; });
    child.stdin.on("error", () => {});
    await until("the handshake is done", () => said.includes("Verify return code: 0 (ok)"), 20_000);
    const ended = next(child, "exit", 20_000);
    child.stdin.write("R\n");
    await until("it has asked for it", () => /RENEGOTIATING/.test(said));
    await ended;
    assert.match(said, /no renegotiation|alert|handshake failure/i);
    assert.equal((await get(`${server.url}/`)).status < 500, true);
  });

  test("the server says goodbye when it closes", async () => {
    const { stdout } = await run("sh", ["-c", `printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | timeout 20 openssl s_client -quiet -no_ign_eof -msg -connect 127.0.0.1:${server.port} -servername localhost -CAfile ${file("ca.pem")} 2>&1; true`]);
    assert.match(stdout, /<<< TLS 1\.3, Alert.*(\n.*)?warning close_notify|close_notify/);
  });
});

describe("a renewal", { skip }, () => {
  test("under load drops nobody, and a torn file changes nothing", async (t) => {
    const own = await start();
    t.after(own.stop);
    const stayers = await Promise.all([{ transports: ["polling"] }, { transports: ["websocket"] }, {}]
      .map((options) => settled(t, own.url, { ...options, ca: ca() })));
    const drops = stayers.map((socket) => collect(socket, "disconnect"));
    let isOver = false;
    const comers = Promise.all([1, 2, 3].map(async () => {
      let count = 0;
      for (; !isOver; count++) assert.ok((await get(`${own.url}/socket.io/?EIO=4&transport=polling`)).status === 200);
      return count;
    }));
    for (let round = 0; round < 5; round++) {
      const serial = renew();
      own.hup();
      await until("the new certificate is shown", async () => (await get(`${own.url}/`)).serial === serial);
      for (const socket of stayers) assert.equal(await ask(socket, "message-with-ack", round), round);
    }
    const serial = new X509Certificate(readFileSync(file("localhost.pem"))).serialNumber;
    writeFileSync(file("localhost.key"), "torn");
    own.hup();
    await until("the log says so", () => own.log().includes("localhost.key"));
    assert.match(own.log(), /ERROR.*tls_key.*the certificates that were there before are still used/);
    assert.equal((await get(`${own.url}/`)).serial, serial);
    isOver = true;
    assert.ok((await comers).every((count) => count > 5));
    assert.deepEqual(drops.map((seen) => seen.length), [0, 0, 0]);
    renew();
  });

  test("what is wrong at the start ends it, with the file's name and no word of the key", async () => {
    writeFileSync(file("broken.key"), readFileSync(file("localhost.key"), "utf8").replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY---"));
    for (const [settings, expected] of [
      [{ SHARDCAST_TLS_KEY: file("other.key") }, /tls_key = ".*other.key": it is not the key of the certificate in tls_cert = ".*localhost.pem"/],
      [{ SHARDCAST_TLS_CERT: file("nowhere.pem") }, /tls_cert = ".*nowhere.pem": No such file/],
      [{ SHARDCAST_TLS_KEY: file("broken.key") }, /tls_key = ".*broken.key"/],
      [{ SHARDCAST_TLS_KEY: "" }, /tls_cert names 1 files and tls_key 0/],
    ]) {
      const fault = await run(CONFORMANCE, [], { timeout: 20_000, env: {
        ...process.env, SHARDCAST_BIN: undefined, SHARDCAST_BIND: "127.0.0.1:0", SHARDCAST_TLS_CERT: file("localhost.pem"), SHARDCAST_TLS_KEY: file("localhost.key"), ...settings,
      } }).then(() => assert.fail("it started"), (error) => error);
      assert.match(fault.stderr, expected);
      const secret = readFileSync(file("localhost.key"), "utf8").split("\n")[1].slice(0, 20);
      assert.ok(!fault.stderr.includes(secret), "a key was logged");
    }
  });
});

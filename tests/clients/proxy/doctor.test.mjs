// `shardcast doctor` before an nginx that is right, and before ones that are wrong, each in its own way: it must name the part, and the
// line that is wrong. Two servers stand behind each, as two processes would.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { openSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { isReference } from "../js/lib/target.mjs";
import { next, until } from "../js/lib/wait.mjs";
import { accepts, freePort, startProxy } from "./proxy.mjs";

const only = { skip: isReference && "the doctor is shardcast's, and knows its settings" };
const run = promisify(execFile);
const PAGE = "https://page.example";
const servers = [];
let folder;

before(async () => {
  if (isReference) return;
  folder = await mkdtemp(path.join(tmpdir(), "shardcast-doctor-"));
  servers.push(await startServer("one"), await startServer("two"));
  await makeCertificates();
});

after(async () => {
  await Promise.all(servers.map(async ({ child }) => {
    const ended = next(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }));
  if (folder) await rm(folder, { recursive: true, force: true });
});

// A server whose pings come soon, so that silence is over soon.
async function startServer(name) {
  const { SERVER_LOG, CONFORMANCE_BIN, ...inherited } = process.env;
  const port = await freePort();
  const log = openSync(path.join(path.dirname(SERVER_LOG), `doctor-${name}.log`), "w");
  const settings = { SHARDCAST_TRUSTED_PROXIES: "127.0.0.1", SHARDCAST_PING_INTERVAL: "3s", SHARDCAST_CORS_ALLOWED_ORIGINS: PAGE };
  const child = spawn(CONFORMANCE_BIN, ["--bind", `127.0.0.1:${port}`, "--shards", "2"], {
    env: { ...inherited, ...settings },
    stdio: ["ignore", log, log],
  });
  child.on("error", (error) => { throw error; });
  await until(`server ${name} listens`, () => {
    assert.equal(child.exitCode, null, `server ${name} ended`);
    return accepts(port);
  }, 10_000);
  return { child, address: `127.0.0.1:${port}` };
}

// An authority of our own, and what it has signed: a certificate for localhost, and one for another name.
async function makeCertificates() {
  const openssl = (...args) => run("openssl", args, { cwd: folder });
  await openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
    "-subj", "/CN=authority of a test", "-keyout", "authority.key", "-out", "authority.pem");
  for (const name of ["localhost", "other.example"]) {
    await openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${name}`,
      "-addext", `subjectAltName=DNS:${name}`, "-keyout", `${name}.key`, "-out", `${name}.request`);
    await openssl("x509", "-req", "-days", "30", "-copy_extensions", "copy", "-CAcreateserial", "-in", `${name}.request`,
      "-CA", "authority.pem", "-CAkey", "authority.key", "-out", `${name}.pem`);
  }
}

const LOCATION = {
  proxy_pass: "http://app",
  proxy_http_version: "1.1",
  "proxy_set_header Host": "$http_host",
  "proxy_set_header X-Forwarded-For": "$proxy_add_x_forwarded_for",
  "proxy_set_header X-Forwarded-Proto": "$scheme",
  "proxy_set_header Upgrade": "$http_upgrade",
  "proxy_set_header Connection": "$connection_upgrade",
};

const directives = (lines) => Object.entries(lines).filter(([, value]) => value !== null)
  .map(([name, value]) => `${name} ${value};`).join(" ");

// A configuration like that of docs/behind-nginx.md, with one thing that differs.
function configuration({ location = "/", lines = {}, upstream = "ip_hash;", before = "", certificate }) {
  const backends = servers.map(({ address }) => `server ${address} max_fails=0;`).join(" ");
  const own = upstream === "down" ? "server 127.0.0.1:1;" : `${upstream} ${backends}`;
  const listen = certificate ? "listen @LISTEN@ ssl;" : "listen @LISTEN@;";
  const tls = certificate ? `ssl_certificate ${folder}/${certificate}.pem; ssl_certificate_key ${folder}/${certificate}.key;` : "";
  return `
    daemon off; pid nginx.pid; error_log error.log; events {}
    http {
      access_log off;
      client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
      client_max_body_size 2m;
      proxy_cache_path cache keys_zone=answers:1m;
      map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
      upstream app { ${own} keepalive 16; }
      server { ${listen} ${tls} ${before}
        location ${location} { ${directives({ ...LOCATION, ...lines })} }
      }
    }`;
}

async function startNginx(options) {
  const template = path.join(folder, "nginx.conf.template");
  await writeFile(template, configuration(options));
  // startProxy looks beside itself, and takes a whole path as well.
  return startProxy("nginx", template, (own, config) => ["-p", own, "-c", config, "-e", "error.log"]);
}

async function examine(url, ...args) {
  const binary = process.env.DOCTOR_BIN;
  const outcome = await run(binary, ["doctor", url, "--json", "--timeout", "5s", ...args], { timeout: 60_000 }).catch((error) => error);
  assert.ok(outcome.stdout, `${url}: ${outcome.stderr}`);
  const { findings } = JSON.parse(outcome.stdout);
  return { code: outcome.code ?? 0, findings, faults: findings.filter(({ verdict }) => verdict !== "well") };
}

// What differs, the first part that is not well, and words of a line to change.
const WRONG = {
  "no Upgrade header": [{ lines: { "proxy_set_header Upgrade": null } }, "upgrade", /^nginx: .*Upgrade \$http_upgrade/m],
  "no location for the endpoint": [{ location: "/app/" }, "handshake", /^nginx: location \/socket\.io\//m],
  "a location that cuts the path": [{ location: "/socket.io/", lines: { proxy_pass: "http://app/" } }, "handshake", /no path behind http:\/\/app/],
  "no stickiness": [{ upstream: "" }, "polling", /^nginx: ip_hash/m],
  "a short patience": [{ lines: { proxy_read_timeout: "1s" } }, "idle", /^nginx: proxy_read_timeout/m],
  "small bodies only": [{ lines: { client_max_body_size: "100k" } }, "large messages", /^nginx: client_max_body_size 1m/m],
  "another Host": [{ lines: { "proxy_set_header Host": "app" } }, "own pages", /^nginx: proxy_set_header Host \$http_host/m],
  "no server behind it": [{ upstream: "down" }, "handshake", /^server: start it/m],
  "answers kept": [{ lines: { proxy_cache: "answers", proxy_cache_valid: "200 1m", proxy_cache_key: "$args", proxy_ignore_headers: "Cache-Control Set-Cookie" } }, "cache", /^nginx: proxy_cache off/m],
  "an origin added": [{ lines: { "add_header Access-Control-Allow-Origin": "* always" } }, "other pages", /no add_header/],
  "errors replaced": [{ lines: { proxy_intercept_errors: "on", error_page: "400 /oops" } }, "errors", /proxy_intercept_errors off/],
  "moved": [{ before: "return 301 https://$host$request_uri;" }, "handshake", /stock clients do not follow/],
};

describe("a doctor before nginx", only, () => {
  test("a right configuration is well", async () => {
    const nginx = await startNginx({});
    try {
      const { code, findings, faults } = await examine(nginx.url, "--origin", PAGE);
      assert.deepEqual(faults, []);
      assert.equal(code, 0);
      const parts = findings.map(({ part }) => part);
      for (const part of ["proxy", "stickiness", "large messages", "upgrade", "WebSocket", "idle", "own pages", "other pages"]) {
        assert.ok(parts.includes(part), `${part} is spoken of`);
      }
      assert.match(findings.find(({ part }) => part === "proxy").saw, /nginx/);
    } finally {
      await nginx.stop();
    }
  });

  for (const [name, [options, part, line]] of Object.entries(WRONG)) {
    test(name, async () => {
      const nginx = await startNginx(options);
      try {
        const { code, faults } = await examine(nginx.url, "--origin", PAGE);
        const worst = faults.find(({ verdict }) => verdict === "fault") ?? faults.find((one) => one.part === part);
        assert.equal(worst?.part, part, JSON.stringify(faults, null, 1));
        assert.match(worst.changes.map(({ whose, line }) => `${whose}: ${line}`).join("\n"), line);
        assert.equal(code, faults.some(({ verdict }) => verdict === "fault") ? 1 : 0);
      } finally {
        await nginx.stop();
      }
    });
  }

  test("TLS: right, of an unknown authority, for another name, unasked, and asked of a plain port", async () => {
    const authority = ["--ca", path.join(folder, "authority.pem"), "--idle", "0"];
    const [right, other, plain] = [await startNginx({ certificate: "localhost" }), await startNginx({ certificate: "other.example" }), await startNginx({})];
    const secure = (nginx) => nginx.url.replace("http://127.0.0.1", "https://localhost");
    try {
      const { faults, findings } = await examine(secure(right), ...authority);
      assert.deepEqual(faults.filter(({ part }) => part !== "connection"), []);
      assert.match(findings.find(({ part }) => part === "TLS").saw, /TLSv1\.[23], http\/1\.1; .* good for 29 days/);
      const first = async (...args) => {
        const { code, faults } = await examine(...args);
        assert.equal(code, 1);
        const fault = faults.find(({ verdict }) => verdict === "fault");
        return `${fault.part}: ${fault.changes.map(({ line }) => line).join(" ")}`;
      };
      assert.match(await first(secure(right), "--idle", "0"), /^TLS: .*fullchain\.pem/);
      assert.match(await first(secure(other), ...authority), /^TLS: one that names localhost/);
      assert.match(await first(secure(right).replace("https:", "http:"), "--idle", "0"), /^handshake: https:/);
      assert.match(await first(secure(plain), ...authority), /^TLS: http:\/\/localhost/);
    } finally {
      await Promise.all([right, other, plain].map((nginx) => nginx.stop()));
    }
  });

  test("a lost scheme", async () => {
    const nginx = await startNginx({ certificate: "localhost", lines: { "proxy_set_header X-Forwarded-Proto": null } });
    try {
      const url = nginx.url.replace("http://127.0.0.1", "https://localhost");
      const { faults } = await examine(url, "--ca", path.join(folder, "authority.pem"), "--idle", "0");
      const fault = faults.find(({ verdict }) => verdict === "fault");
      assert.equal(fault.part, "own pages");
      assert.match(fault.changes[0].line, /X-Forwarded-Proto \$scheme/);
    } finally {
      await nginx.stop();
    }
  });
});

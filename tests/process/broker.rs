//! Real message brokers as processes of a test: on a private port of the loopback interface, killed, stopped, and started again.
//!
//! Each ends with its value, and with the thread that started it even when the test program is killed. Knows nothing of what is
//! said to them: the clients are what is tested.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than any broker takes to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports are taken from here: below those that the kernel gives to clients (from 32768), or a client that connects again and again
/// could be given the very port on which its broker is about to listen.
const PORTS: std::ops::Range<u16> = 20_000..24_000;

/// How far above its port a broker has a second one, and a third one, if it needs them.
const SECOND: u16 = 4_000;
const THIRD: u16 = 8_000;

/// How often another port is tried when a broker cannot listen.
const ATTEMPTS: usize = 5;

/// How a broker says that it is ready.
#[derive(Clone, Copy)]
enum Ready {
    /// To these bytes it answers with something that begins with those.
    Answer(&'static [u8], &'static [u8]),
    /// It accepts connections.
    Accept,
}

/// The command of a broker for a port and a folder.
type Start = Box<dyn Fn(u16, &Path) -> Command + Send>;

/// A broker's process, and what is needed to start it again.
pub(crate) struct BrokerProcess {
    pub(crate) port: u16,
    /// Its data and settings; gone with the value.
    pub(crate) folder: PathBuf,
    /// Held as long as the ports are ours.
    lock: Option<File>,
    child: Option<Child>,
    command: Start,
    ready: Ready,
}

impl BrokerProcess {
    /// Redis without any file, with more arguments, as `--requirepass`.
    pub(crate) fn redis(arguments: &[&str]) -> BrokerProcess {
        BrokerProcess::redis_like("redis-server", arguments)
    }

    /// Valkey, as Redis.
    pub(crate) fn valkey(arguments: &[&str]) -> BrokerProcess {
        BrokerProcess::redis_like(&dependency("valkey/valkey-server"), arguments)
    }

    fn redis_like(program: &str, arguments: &[&str]) -> BrokerProcess {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let program = program.to_owned();
        // A server that wants a password says so, which is an answer, too.
        BrokerProcess::start(Ready::Answer(b"PING\r\n", b""), move |port, folder| {
            let mut command = program_of(&program);
            command.args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
            command.args(["--maxmemory", "256mb", "--dir"]).arg(folder).args(&arguments);
            command
        })
    }

    /// A cluster of one node of Redis, which has all slots.
    pub(crate) fn redis_cluster() -> BrokerProcess {
        let broker = BrokerProcess::redis_cluster_node();
        assert_eq!(broker.command("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK");
        let started = Instant::now();
        while !broker.command("CLUSTER INFO").contains("cluster_state:ok") {
            assert!(started.elapsed() < PATIENCE, "the cluster does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        broker
    }

    /// A node of a cluster, without slots.
    pub(crate) fn redis_cluster_node() -> BrokerProcess {
        BrokerProcess::start(Ready::Answer(b"PING\r\n", b""), |port, folder| {
            let mut command = program_of("redis-server");
            command
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"])
                .arg(folder);
            command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
            command.args(["--cluster-port", &(port + SECOND).to_string()]);
            command
        })
    }

    /// A sentinel that watches this Redis under the name `mymaster`.
    pub(crate) fn sentinel(master: u16) -> BrokerProcess {
        BrokerProcess::sentinel_of(master, 1)
    }

    /// One of several, of which so many have to agree that it is gone.
    pub(crate) fn sentinel_of(master: u16, quorum: u16) -> BrokerProcess {
        BrokerProcess::start(Ready::Answer(b"PING\r\n", b""), move |port, folder| {
            let settings = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {master} {quorum}\n\
                 sentinel down-after-milliseconds mymaster 1000\n"
            );
            let file = folder.join("sentinel.conf");
            std::fs::write(&file, settings).expect("the settings can be written");
            let mut command = program_of("redis-server");
            command.arg(file).arg("--sentinel");
            command
        })
    }

    /// NATS; with JetStream if `-js` is among the arguments.
    pub(crate) fn nats(arguments: &[&str]) -> BrokerProcess {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        BrokerProcess::start(Ready::Answer(b"", b"INFO"), move |port, folder| {
            let mut command = program_of("nats-server");
            command
                .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
                .arg(folder.join("js"))
                .args(&arguments);
            command
        })
    }

    /// RabbitMQ, for guest with the password guest.
    pub(crate) fn rabbitmq() -> BrokerProcess {
        BrokerProcess::rabbitmq_like(None)
    }

    /// The same, by TLS alone.
    pub(crate) fn rabbitmq_with_tls(authority: &Authority) -> BrokerProcess {
        BrokerProcess::rabbitmq_like(Some(authority.clone()))
    }

    fn rabbitmq_like(authority: Option<Authority>) -> BrokerProcess {
        let ready = match authority {
            None => Ready::Answer(b"AMQP\0\0\x09\x01", b"\x01"),
            Some(_) => Ready::Accept,
        };
        BrokerProcess::start(ready, move |port, folder| {
            let mut settings = "loopback_users = none\nvm_memory_high_watermark.absolute = 256MB\n\
                                disk_free_limit.absolute = 50MB\nlog.console = true\nlog.console.level = warning\n"
                .to_owned();
            settings += &match &authority {
                None => format!("listeners.tcp.1 = 127.0.0.1:{port}\n"),
                Some(Authority { certificate, server_certificate, server_key }) => format!(
                    "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\n\
                     ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
                    certificate.display(),
                    server_certificate.display(),
                    server_key.display()
                ),
            };
            std::fs::write(folder.join("rabbitmq.conf"), settings).expect("the settings can be written");
            std::fs::write(folder.join("plugins"), "[].\n").expect("the settings can be written");
            // What Debian has in the path insists on root or its own user, and on folders of the system: this is what it calls.
            let mut command = program_of("/usr/lib/rabbitmq/bin/rabbitmq-server");
            command.env("HOME", folder).env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("RABBITMQ_LOGS", "-");
            for (name, file) in [
                ("RABBITMQ_MNESIA_BASE", "mnesia"),
                ("RABBITMQ_LOG_BASE", "log"),
                ("RABBITMQ_PID_FILE", "pid"),
                ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
                ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
            ] {
                command.env(name, folder.join(file));
            }
            // Erlang's own: that of the daemon that knows nodes by name, and that of this node.
            command.env("ERL_EPMD_PORT", (port + THIRD).to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
            command.env("RABBITMQ_DIST_PORT", (port + SECOND).to_string());
            command.env("RABBITMQ_NODENAME", format!("shardcast{port}@localhost"));
            command.env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            );
            // Then the script becomes the server, and does not wait for it: a signal reaches the server itself.
            command.env("RUNNING_UNDER_SYSTEMD", "yes");
            command
        })
    }

    /// One node of Kafka, with 64 MB kept.
    pub(crate) fn kafka() -> BrokerProcess {
        let jars = format!("{}/*", dependency("kafka"));
        BrokerProcess::start(Ready::Accept, move |port, folder| {
            let file = folder.join("server.properties");
            if !file.exists() {
                std::fs::write(&file, kafka_settings(port, folder)).expect("the settings can be written");
                let mut format = java(&jars);
                format
                    .args(["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c"])
                    .arg(&file);
                let done = format.stdout(Stdio::null()).stderr(Stdio::null()).status();
                assert!(done.is_ok_and(|status| status.success()), "Kafka's folder could not be prepared");
            }
            let mut command = java(&jars);
            command.arg("kafka.Kafka").arg(file);
            command
        })
    }

    /// nginx, which speaks TLS in front of a server on this machine: no broker, but a process of the same kind.
    pub(crate) fn nginx_with_tls(authority: &Authority, port_behind: u16) -> BrokerProcess {
        let Authority { server_certificate, server_key, .. } = authority.clone();
        BrokerProcess::start(Ready::Accept, move |port, folder| {
            let settings = format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 512; }}\n\
                 http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
                 uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\nserver {{\nlisten 127.0.0.1:{port} ssl;\n\
                 ssl_certificate {};\nssl_certificate_key {};\nlocation / {{\nproxy_pass http://127.0.0.1:{port_behind};\n\
                 proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $http_connection;\n\
                 }}\n}}\n}}\n",
                server_certificate.display(),
                server_key.display()
            );
            std::fs::write(folder.join("nginx.conf"), settings).expect("the settings can be written");
            let mut command = program_of("nginx");
            command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "stderr"]);
            command
        })
    }

    fn start(ready: Ready, command: impl Fn(u16, &Path) -> Command + Send + 'static) -> BrokerProcess {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let command = Box::new(command);
        let mut broker =
            BrokerProcess { port: 0, folder: PathBuf::new(), lock: None, child: None, command, ready };
        for _ in 0..ATTEMPTS {
            let number = STARTED.fetch_add(1, Ordering::Relaxed);
            let name = format!("shardcast-broker-{}-{number}", std::process::id());
            let (port, lock) = free_ports(number);
            (broker.port, broker.lock) = (port, Some(lock));
            broker.folder = std::env::temp_dir().join(name);
            if broker.run() {
                return broker;
            }
        }
        panic!("no broker listens after {ATTEMPTS} attempts; the last one said: {}", broker.log());
    }

    /// Starts it and waits until it is ready; whether it is.
    fn run(&mut self) -> bool {
        std::fs::create_dir_all(&self.folder).expect("a folder for the broker can be made");
        let mut command = (self.command)(self.port, &self.folder);
        let log = File::create(self.folder.join("log.txt")).expect("its log can be written");
        let error = log.try_clone().expect("its log can be written");
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(error);
        self.child = Some(command.spawn().expect("setpriv is missing: run scripts/install-test-deps.sh"));
        let started = Instant::now();
        while !self.is_ready() {
            let has_ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if has_ended {
                let log = self.log();
                let is_missing = log.contains("failed to execute") || log.contains("ClassNotFoundException");
                assert!(!is_missing, "{}: run scripts/install-test-deps.sh", log.trim());
                return false;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the broker does not answer; it said: {log}",
                log = self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let Ready::Answer(question, expected) = self.ready else { return true };
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout can be set");
        let mut answer = [0; 64];
        match stream.write_all(question).and_then(|()| stream.read(&mut answer)) {
            Ok(len) => len > 0 && answer[..len].starts_with(expected),
            Err(_) => false,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log.txt")).unwrap_or_default()
    }

    /// A port that is kept free for a Redis, for a second way to it.
    pub(crate) fn third_port(&self) -> u16 {
        self.port + THIRD
    }

    /// One line to a Redis, and its answer.
    pub(crate) fn command(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("Redis accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.write_all(format!("{line}\r\nPING\r\n").as_bytes()).expect("the line is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"+PONG\r\n") || (line == "PING" && answer.len() < 14) {
            let mut part = [0; 4096];
            let len = stream.read(&mut part).expect("Redis answers");
            assert!(len > 0, "Redis closed after {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..len]);
        }
        let answer = String::from_utf8_lossy(&answer);
        answer.strip_suffix("+PONG\r\n").unwrap_or_default().trim_end().to_owned()
    }

    /// Ends it without a warning: what it had not written is lost.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends it in order.
    pub(crate) fn terminate(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(Pid::from_child(&child), signal);
        let started = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if started.elapsed() > PATIENCE {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops its work without ending it: connections stay, and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it runs");
    }

    /// On the same port, with what it had on disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.run(), "the broker does not start again: {}", self.log());
    }

    /// On the same port, with nothing.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
        self.restart();
    }
}

/// Who signs certificates in a test, and a certificate for `localhost` that it has signed.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) certificate: PathBuf,
    pub(crate) server_certificate: PathBuf,
    pub(crate) server_key: PathBuf,
}

impl Authority {
    /// A new one, in a folder that is there.
    pub(crate) fn new(folder: &Path) -> Authority {
        let file = |name: &str| folder.join(name);
        let name = format!("/CN=authority in {}", folder.file_name().unwrap_or_default().to_string_lossy());
        let own = ["-x509", "-subj", &name, "-addext", "basicConstraints=critical,CA:TRUE"];
        let server = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        let make = |options: &[&str], key: &str, out: &str| {
            let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
            let mut openssl = Command::new("openssl");
            openssl.arg("req").args(curve).args(options).arg("-keyout").arg(file(key)).arg("-out");
            run_to_its_end(openssl.arg(file(out)));
        };
        make(&own, "authority.key", "authority.pem");
        make(&server, "server.key", "server.request");
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-req", "-days", "2", "-copy_extensions", "copy", "-CAcreateserial", "-in"]);
        openssl.arg(file("server.request")).arg("-CA").arg(file("authority.pem")).arg("-CAkey");
        run_to_its_end(openssl.arg(file("authority.key")).arg("-out").arg(file("server.pem")));
        Authority {
            certificate: file("authority.pem"),
            server_certificate: file("server.pem"),
            server_key: file("server.key"),
        }
    }
}

fn run_to_its_end(command: &mut Command) {
    let output = command.output().expect("openssl is missing: run scripts/install-test-deps.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.kill();
        if self.folder.join("mnesia").exists() {
            // Erlang leaves a daemon behind, which ends when it is told to and knows of no node.
            let port = (self.port + THIRD).to_string();
            let _ = Command::new("epmd").args(["-port", &port, "-kill"]).stdout(Stdio::null()).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A program that ends with the thread that started it.
fn program_of(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    // Where Debian has servers, which not every user's path names.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
    command
}

fn java(jars: &str) -> Command {
    let mut command = program_of("java");
    command.args(["-Xms64m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", jars]);
    command
}

fn kafka_settings(port: u16, folder: &Path) -> String {
    let controller = port + SECOND;
    let mut settings = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n",
        folder.join("data").display()
    );
    settings.push_str(
        "offsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nlog.segment.bytes=16777216\nlog.retention.bytes=67108864\n\
         log.cleaner.dedupe.buffer.size=4194304\n\
         num.network.threads=2\nnum.io.threads=2\n",
    );
    settings
}

/// What scripts/install-test-deps.sh has put below `.deps`.
fn dependency(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps").join(name);
    assert!(path.exists(), "{} is missing: run scripts/install-test-deps.sh", path.display());
    path.to_string_lossy().into_owned()
}

/// Ports that no other test has and on which nobody listens. The lock is on a file of that name, so that it ends with the program.
fn free_ports(number: u32) -> (u16, File) {
    let len = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(977).wrapping_add(number.wrapping_mul(31));
    let locks = std::env::temp_dir().join("shardcast-ports");
    std::fs::create_dir_all(&locks).expect("a folder for locks can be made");
    for step in 0..len {
        let port = PORTS.start + u16::try_from(first.wrapping_add(step) % len).expect("below the length");
        let lock = File::create(locks.join(port.to_string())).expect("a lock can be made");
        let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let ports = [port, port + SECOND, port + THIRD];
        if is_ours && ports.iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return (port, lock);
        }
    }
    panic!("no port between {} and {} is free", PORTS.start, PORTS.end);
}

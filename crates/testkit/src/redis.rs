//! A real `redis-server` of a test's own: loopback only, own directory, gone with the value.
//!
//! Nothing here stands in for Redis: a test that needs it and finds none fails and says how to install it.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use mayfly_domain::Deadline;
use ring::rand::{SecureRandom as _, SystemRandom};
use tempfile::TempDir;

use crate::process::Guarded;
use crate::tls::ServerTls;

const ADMIN: &str = "testkit";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// When Redis syncs its append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFsync {
    /// Before each answer.
    Always,
    /// Once a second: an acknowledged write may be lost.
    EverySec,
    /// Whenever the kernel likes.
    No,
}

/// How the server is set up. The default keeps what it acknowledged: append-only file, synced always.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Whether there is an append-only file.
    pub appendonly: bool,
    /// When it is synced.
    pub appendfsync: AppendFsync,
    /// Whether the port speaks TLS (and nothing else).
    pub tls: bool,
    /// A user and its password; the nameless default user is off then.
    pub user: Option<(String, String)>,
    /// What that user may do, in the words of `ACL SETUSER`.
    pub acl: String,
    /// More directives of `redis.conf`, such as `maxmemory-policy allkeys-lru`.
    pub directives: Vec<String>,
    /// Whether its clock can be stepped, where libfaketime is there.
    pub own_clock: bool,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            appendonly: true,
            appendfsync: AppendFsync::Always,
            tls: false,
            user: None,
            acl: "~* &* +@all".to_owned(),
            directives: Vec::new(),
            own_clock: false,
        }
    }
}

/// What a server held at some moment, as a backup or an old disk has it.
#[derive(Debug)]
pub struct RedisCopy(TempDir);

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Guarded>,
    dir: TempDir,
    port: u16,
    options: RedisOptions,
    tls: Option<ServerTls>,
    admin_password: String,
}

impl RedisServer {
    /// Starts a server and returns when it answers `PING`.
    ///
    /// # Panics
    /// Where `redis-server` is not installed or does not come up.
    pub fn start(options: RedisOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("mayfly-redis-").tempdir().unwrap();
        let tls = options.tls.then(ServerTls::loopback);
        let mut server =
            Self { process: None, dir, port: 0, options, tls, admin_password: random_hex::<16>() };
        for _ in 0..20 {
            server.port = probably_free_port();
            if server.spawn().is_ok() {
                return server;
            }
        }
        panic!("redis-server found no free port in 20 attempts:\n{}", server.log());
    }

    /// The port on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as a configuration names it: scheme, user, host and port, without the password.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let user = self.options.user.as_ref().map_or_else(String::new, |(name, _)| format!("{name}@"));
        format!("{scheme}://{user}127.0.0.1:{}", self.port)
    }

    /// The password of the user that the options name.
    pub fn password(&self) -> Option<&str> {
        self.options.user.as_ref().map(|(_, password)| password.as_str())
    }

    /// The file with the certificate of the authority that signed the server's, where it speaks TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.tls.as_ref().map(|_| self.path("ca.pem"))
    }

    /// The directory of its data, certificates and log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A connection with every right, beside the port, that works whatever the options say.
    pub fn admin(&self) -> ::redis::Connection {
        self.try_admin().expect("redis-server answers on its socket")
    }

    /// Everything that it holds as text, for searching: keys, then each value's `DUMP`, then its files.
    pub fn everything(&self) -> Vec<u8> {
        let mut connection = self.admin();
        let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let mut all = Vec::new();
        for key in keys {
            let dump: Option<Vec<u8>> = ::redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
            all.extend_from_slice(&key);
            all.push(b'\n');
            all.extend_from_slice(&dump.unwrap_or_default());
        }
        collect_files(self.dir.path(), &["redis.conf", "users.acl"], &mut all);
        all
    }

    /// Forgets everything, as a careless person would.
    pub fn flushall(&self) {
        ::redis::cmd("FLUSHALL").query::<()>(&mut self.admin()).unwrap();
    }

    /// Ends the process at once (`SIGKILL`).
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Freezes the process (`SIGSTOP`): connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.running().freeze();
    }

    /// Lets a frozen process go on (`SIGCONT`).
    pub fn thaw(&self) {
        self.running().thaw();
    }

    /// Starts it again on the same port and data, ending it first where it still runs.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn restart(&mut self) {
        self.kill9();
        let give_up = Deadline::after(READY_WITHIN);
        while let Err(status) = self.spawn() {
            assert!(
                !give_up.has_passed(),
                "redis-server ended with {status} again and again:\n{}",
                self.log()
            );
            std::thread::yield_now();
        }
    }

    /// Ends it, throws its data away and starts it empty on the same port.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn replace_by_empty(&mut self) {
        self.kill9();
        let _ = fs::remove_dir_all(self.path("appendonlydir"));
        let _ = fs::remove_file(self.path("dump.rdb"));
        self.restart();
    }

    /// A copy of its append-only file as it is now.
    pub fn copy(&self) -> RedisCopy {
        let copy = tempfile::Builder::new().prefix("mayfly-redis-copy-").tempdir().unwrap();
        copy_files(&self.path("appendonlydir"), copy.path());
        RedisCopy(copy)
    }

    /// Ends it, puts an older copy in the place of its data and starts it on the same port.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn replace_by(&mut self, older: &RedisCopy) {
        self.kill9();
        let files = self.path("appendonlydir");
        fs::remove_dir_all(&files).unwrap();
        fs::create_dir(&files).unwrap();
        copy_files(older.0.path(), &files);
        self.restart();
    }

    /// Steps its wall clock to so many seconds before or after the machine's. False where it has no clock of its own:
    /// the options ask for none, or libfaketime is not installed.
    pub fn step_clock(&self, seconds: i64) -> bool {
        let stepped = self.options.own_clock && libfaketime().is_some();
        if stepped {
            // Moved into its place, since the server may read it at any moment.
            fs::write(self.path("clock.new"), format!("{seconds:+}s\n")).unwrap();
            fs::rename(self.path("clock.new"), self.path("clock")).unwrap();
        }
        stepped
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("redis.log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn running(&self) -> &Guarded {
        self.process.as_ref().expect("redis-server runs")
    }

    fn try_admin(&self) -> ::redis::RedisResult<::redis::Connection> {
        let socket = self.path("redis.sock");
        let url = format!("redis+unix://{}?user={ADMIN}&pass={}", socket.display(), self.admin_password);
        ::redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(5))
    }

    /// Starts the process and waits until it serves; the status where it ended instead (a port taken).
    fn spawn(&mut self) -> Result<(), ExitStatus> {
        let _ = fs::remove_file(self.path("redis.sock"));
        self.write_configuration();
        let mut command = Command::new("redis-server");
        command.arg(self.path("redis.conf")).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(library) = libfaketime().filter(|_| self.options.own_clock) {
            if !self.path("clock").exists() {
                self.step_clock(0);
            }
            // With the C library's own allocator: Redis' reads a clock before libfaketime has found the real one.
            command.env("LD_PRELOAD", format!("{} libc.so.6", library.display()));
            command.env("FAKETIME_TIMESTAMP_FILE", self.path("clock"));
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut process = match Guarded::spawn(&mut command) {
            Ok(process) => process,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                panic!(
                    "these tests need a real redis-server on PATH: run `make test`, or install redis-server"
                )
            }
            Err(e) => panic!("redis-server does not start: {e}"),
        };
        let give_up = Deadline::after(READY_WITHIN);
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = process.ended() {
                return Err(status);
            }
            let pong = self.try_admin().and_then(|mut c| ::redis::cmd("PING").query::<String>(&mut c));
            if pong.is_ok() {
                self.process = Some(process);
                return Ok(());
            }
            if give_up.has_passed() {
                return Err(process.kill9());
            }
            // No event says that a child's socket is there: it is asked for, ever less often.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn write_configuration(&self) {
        let o = &self.options;
        let fsync = match o.appendfsync {
            AppendFsync::Always => "always",
            AppendFsync::EverySec => "everysec",
            AppendFsync::No => "no",
        };
        let mut conf = vec![
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "logfile redis.log".to_owned(),
            "unixsocket redis.sock".to_owned(),
            "unixsocketperm 700".to_owned(),
            "aclfile users.acl".to_owned(),
            format!("dir {}", self.dir.path().display()),
            format!("appendonly {}", if o.appendonly { "yes" } else { "no" }),
            format!("appendfsync {fsync}"),
        ];
        if let Some(tls) = &self.tls {
            conf.push("port 0".to_owned());
            conf.push(format!("tls-port {}", self.port));
            conf.push("tls-cert-file cert.pem".to_owned());
            conf.push("tls-key-file key.pem".to_owned());
            conf.push("tls-ca-cert-file ca.pem".to_owned());
            conf.push("tls-auth-clients no".to_owned());
            fs::write(self.path("ca.pem"), &tls.ca_pem).unwrap();
            fs::write(self.path("cert.pem"), &tls.cert_pem).unwrap();
            fs::write(self.path("key.pem"), &tls.key_pem).unwrap();
        } else {
            conf.push(format!("port {}", self.port));
        }
        conf.extend(o.directives.iter().cloned());
        fs::write(self.path("redis.conf"), conf.join("\n") + "\n").unwrap();

        let mut users = format!("user {ADMIN} on >{} ~* &* +@all\n", self.admin_password);
        match &o.user {
            None => users.push_str("user default on nopass ~* &* +@all\n"),
            Some((name, password)) => {
                users.push_str("user default off\n");
                users.push_str(&format!("user {name} on >{password} {}\n", o.acl));
            }
        }
        fs::write(self.path("users.acl"), users).unwrap();
    }
}

/// A port that nobody listens on now. Redis knows no port 0, so another process may take it before the
/// server does: the caller tries again. The range lies below the one that kernels give out by themselves,
/// so that a server which restarts finds its port still free.
fn probably_free_port() -> u16 {
    loop {
        let mut random = [0; 2];
        SystemRandom::new().fill(&mut random).unwrap();
        let port = 12_000 + u16::from_be_bytes(random) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The library by which a process gets a wall clock of its own, where it is installed.
fn libfaketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|library| library.exists())
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn random_hex<const N: usize>() -> String {
    let mut random = [0; N];
    SystemRandom::new().fill(&mut random).unwrap();
    random.iter().map(|b| format!("{b:02x}")).collect()
}

fn collect_files(dir: &Path, except: &[&str], out: &mut Vec<u8>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect_files(&entry.path(), except, out);
        } else if kind.is_file() && !except.iter().any(|name| entry.file_name() == *name) {
            out.extend(fs::read(entry.path()).unwrap());
        }
    }
}

#[cfg(test)]
mod tests;

//! A server of the tests' own: started, killed, and started again on the same files and the same port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use esker::backplane::{Nats, NatsConfig};

/// A `nats-server` with JetStream, in a directory that goes with it.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self { directory, child: None, port: 0 };
        server.child = Some(server.spawn("-1"));
        let id = server.child.as_ref().unwrap().id();
        server.port = port_in(&server.directory.path().join(format!("nats-server_{id}.ports")));
        server
    }

    fn spawn(&self, port: &str) -> Child {
        let path = self.directory.path();
        Command::new("nats-server")
            .args(["-js", "-a", "127.0.0.1", "-p", port, "--ports_file_dir"])
            .arg(path)
            .arg("-sd")
            .arg(path.join("streams"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "nats-server cannot be run ({error}): these tests need it, `apt-get install nats-server`"
                )
            })
    }

    /// As hard as can be had.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The same again, with what was stored.
    pub(crate) fn revive(&mut self) {
        let mut child = self.spawn(&self.port.to_string());
        until(|| {
            assert!(child.try_wait().unwrap().is_none(), "nats-server ended on port {}", self.port);
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        self.child = Some(child);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Asks the server's API as an operator's tool does. Answers what came back.
    pub(crate) fn ask(&self, subject: &str, payload: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = payload.len();
        let asked = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.asked 1\r\nPUB {subject} _INBOX.asked {length}\r\n{payload}\r\n"
        );
        socket.write_all(asked.as_bytes()).unwrap();
        let mut reader = BufReader::new(socket);
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the server hung up behind {subject}");
            if let Some(message) = line.strip_prefix("MSG ") {
                let mut answer = vec![0; message.trim().rsplit(' ').next().unwrap().parse().unwrap()];
                reader.read_exact(&mut answer).unwrap();
                return String::from_utf8(answer).unwrap();
            }
        }
    }

    /// Publishes to topics of the stream `event` as another program does: one behind the other, without waiting for
    /// answers. All of it is stored when this returns.
    pub(crate) fn publish(
        &self,
        numbers: std::ops::Range<u64>,
        body: &[u8],
        key: impl Fn(u64) -> &'static str,
    ) {
        // Makes the stream where there is none.
        drop(self.connect());
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.write_all(b"CONNECT {\"verbose\":false}\r\nSUB _INBOX.published 1\r\n").unwrap();
        let mut asked = Vec::new();
        for n in numbers.start..numbers.end - 1 {
            asked.extend(format!("PUB esker.e.event.{} {}\r\n", key(n), body.len()).as_bytes());
            asked.extend(body);
            asked.extend(b"\r\n");
            if asked.len() > 1 << 16 {
                socket.write_all(&asked).unwrap();
                asked.clear();
            }
        }
        asked.extend(
            format!("PUB esker.e.event.{} _INBOX.published {}\r\n", key(numbers.end - 1), body.len())
                .as_bytes(),
        );
        asked.extend(body);
        asked.extend(b"\r\n");
        socket.write_all(&asked).unwrap();
        let mut lines = BufReader::new(socket).lines();
        lines.find(|line| line.as_ref().unwrap().starts_with("MSG ")).unwrap().unwrap();
    }

    /// Publishes an empty message with a header. It is stored when this returns.
    pub(crate) fn publish_with_header(&self, subject: &str, header: &str) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let header = format!("NATS/1.0\r\n{header}\r\n\r\n");
        let length = header.len();
        let asked = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB _INBOX.published 1\r\n\
             HPUB {subject} _INBOX.published {length} {length}\r\n{header}\r\n"
        );
        socket.write_all(asked.as_bytes()).unwrap();
        let mut lines = BufReader::new(socket).lines();
        lines.find(|line| line.as_ref().unwrap().starts_with("MSG ")).unwrap().unwrap();
    }

    /// So many messages of a subject are stored.
    pub(crate) fn messages_of(&self, subject: &str) -> u64 {
        let asked = format!(r#"{{"subjects_filter":"{subject}"}}"#);
        let info = self.ask("$JS.API.STREAM.INFO.esker", &asked);
        let counted = info.split_once(&format!("\"{subject}\":")).map(|(_, rest)| rest.to_owned());
        let digits = |text: String| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        counted.map_or(0, |text| digits(text).parse().unwrap())
    }

    /// So that what is lost is noticed soon.
    pub(crate) fn config(&self) -> NatsConfig {
        NatsConfig::new()
            .server(format!("nats://127.0.0.1:{}", self.port))
            .timeout(Duration::from_secs(4))
            .watch_every(Duration::from_millis(400))
    }

    pub(crate) fn connect(&self) -> Nats {
        // It listens before it has its streams.
        until(|| Nats::connect(self.config()).ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut answer: impl FnMut() -> Option<T>) -> T {
    const PATIENCE: Duration = Duration::from_secs(300);
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn port_in(file: &Path) -> u16 {
    until(|| {
        let text = std::fs::read_to_string(file).ok()?;
        let (_, rest) = text.split_once("nats://127.0.0.1:")?;
        rest.split('"').next()?.parse().ok()
    })
}

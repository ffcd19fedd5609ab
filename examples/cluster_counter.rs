//! Processes that count together over one NATS stream, through kills of themselves and of the server: in the end all of
//! them have the same digest.
//!
//! ```sh
//! cargo run --release --features nats --example cluster_counter [PROCESSES] [KILLS]
//! ```
//!
//! It starts a `nats-server` of its own (Debian: `apt-get install nats-server`). By default there are 2 processes, and 20
//! kills: mostly of a process, now and then of the server, once at least, always with SIGKILL. Each process appends numbers to a few
//! topics and folds all of them; the value of a fold is a hash chain over the offset and the bytes of each record, so that another
//! order or a record that is lost or taken twice makes another one. At the end nobody appends, each process tells its digests and where it
//! stands, and one that only reads the records of the streams, and folds nothing, tells what they should be.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use esker::backplane::{Backplane, Filter, Nats, NatsConfig, Offset};
use esker::{At, ErrorKind, Fold, Store, Topic, TopicFold};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const COUNTS: Topic<u64> = Topic::new("count");
const KEYS: [&str; 4] = ["north", "east", "south", "west"];
/// This program, told to be one of those that are killed.
const CHILD: &str = "--count-until-told";
const PATIENCE: Duration = Duration::from_secs(120);

/// A hash chain over the offset and the bytes of each record.
struct Chain;
impl Fold for Chain {
    type State = (u64, u64);
    type Event = u64;
    const NAME: &'static str = "chain";
    const VERSION: u32 = 1;
    fn fold(chain: &mut (u64, u64), number: u64, at: &At) {
        chain.0 += 1;
        chain.1 = linked(chain.1, at.seq.get(), &bytes_of(number));
    }
}

/// A number as a topic stores it: the shortest MessagePack. A fold is given the number; who only reads is given the bytes.
fn bytes_of(number: u64) -> Vec<u8> {
    let bytes = number.to_le_bytes();
    let (marker, digits) = match number {
        0..=0x7f => return vec![bytes[0]],
        0x80..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        _ => (0xcf, 8),
    };
    // The most significant first.
    std::iter::once(marker).chain(bytes.into_iter().take(digits).rev()).collect()
}

fn linked(chain: u64, offset: u64, bytes: &[u8]) -> u64 {
    let link = |chain: u64, word: u64| (chain ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let begun = link(link(chain, offset), bytes.len() as u64);
    bytes.iter().fold(begun, |chain, byte| link(chain, u64::from(*byte)))
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    match arguments.next() {
        Some(first) if first == CHILD => count(&arguments.next().ok_or("an address")?),
        first => {
            let processes = first.map_or(Ok(2), |text| text.parse())?;
            let kills = arguments.next().map_or(Ok(20), |text| text.parse())?;
            run(processes, kills)
        }
    }
}

/// Starts everybody, kills at random, and compares.
fn run(processes: usize, kills: usize) -> Outcome {
    let mut chance = Chance(u64::from(std::process::id()) | 1);
    let mut server = Server::start()?;
    let url = server.url();
    // So that a stream is there before all of them want to make it.
    drop(connect(&url)?);
    println!("a server at {url}, {processes} processes, {kills} kills");
    let mut counters: Vec<Counter> = (0..processes).map(|_| Counter::start(&url)).collect::<Outcome<_>>()?;
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(150 + chance.below(500)));
        if chance.below(4) == 0 || kill == kills.div_ceil(2) {
            println!("{kill:>4}  the server is killed, and started again");
            server.kill()?;
            std::thread::sleep(Duration::from_millis(chance.below(300)));
            server.revive()?;
        } else {
            let at = usize::try_from(chance.below(processes as u64))?;
            let counter = counters.get_mut(at).ok_or("a process")?;
            println!("{kill:>4}  process {at} is killed, and another one takes its place");
            counter.kill()?;
            *counter = Counter::start(&url)?;
        }
    }
    let appended = counters.iter_mut().map(Counter::stop).collect::<Outcome<Vec<_>>>()?;
    println!(
        "nobody appends any more; those that were left had appended {appended:?} since they were started"
    );
    let wanted = digest_by_reading(&url)?;
    println!("{wanted}  by reading every record");
    let mut differ = 0;
    for (at, counter) in counters.iter_mut().enumerate() {
        let digest = counter.digest()?;
        differ += usize::from(digest != wanted);
        println!("{digest}  process {at}");
    }
    if differ > 0 {
        return Err(format!("{differ} of {processes} processes came to another digest").into());
    }
    println!("one digest in all of {processes} processes, through {kills} kills");
    Ok(())
}

/// What a process does: appends and folds until it is told to stop, then tells its digests.
fn count(url: &str) -> Outcome {
    let plane = Arc::new(connect(url)?);
    let store = Store::in_memory()?.with_backplane(Arc::clone(&plane) as Arc<dyn Backplane>);
    let folds: Vec<TopicFold<Chain>> =
        KEYS.iter().map(|key| store.topic(COUNTS, key)?.fold()).collect::<esker::Result<_>>()?;
    let (told, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| told.send(line))
    });
    let mut chance = Chance(u64::from(std::process::id()) << 20 | 1);
    let mut appended = 0_u64;
    // Until it is told to stop, or whoever started it is gone.
    while let Err(std::sync::mpsc::TryRecvError::Empty) = hears.try_recv() {
        let key = chance.one_of(&KEYS).ok_or("a key")?;
        // Nobody knows of one whose answer did not come; the next append to its topic sees to it that it is there.
        match store.topic(COUNTS, key)?.append(&appended) {
            Err(error) if error.kind() != ErrorKind::Disconnected => return Err(error.into()),
            _ => appended += 1,
        }
        std::thread::sleep(Duration::from_millis(chance.below(3)));
    }
    println!("{appended}");
    std::io::stdout().flush()?;
    if hears.recv().is_err() {
        return Ok(());
    }
    let mut digest = String::new();
    for (key, fold) in KEYS.iter().zip(&folds) {
        let head = stubborn(|| store.topic(COUNTS, key)?.head())?;
        let (records, chain) = fold.read_after(head, PATIENCE)?.value;
        digest.push_str(&format!("{key} {records} {chain:016x}  "));
    }
    println!("{}", digest.trim_end());
    std::io::stdout().flush()?;
    Ok(())
}

/// What the folds should come to, by a plain reader.
fn digest_by_reading(url: &str) -> Outcome<String> {
    let plane = connect(url)?;
    let mut digest = String::new();
    for key in KEYS {
        let filter = Filter::topic(COUNTS.name(), key.as_bytes());
        let head = stubborn(|| plane.head(filter))?;
        let (mut records, mut chain, mut last) = (0, 0, Offset::BEGINNING);
        let mut seen = std::collections::BTreeSet::new();
        while last < head {
            let mut feed = stubborn(|| plane.subscribe(filter, last))?;
            while last < head
                && let Ok(record) = feed.next()
            {
                last = record.offset();
                // One that was appended again, by somebody who could not know of it, counts once.
                if seen.insert(record.stamp()) {
                    records += 1;
                    chain = linked(chain, last.raw(), record.payload());
                }
            }
        }
        digest.push_str(&format!("{key} {records} {chain:016x}  "));
    }
    Ok(digest.trim_end().to_owned())
}

fn connect(url: &str) -> esker::Result<Nats> {
    let config = NatsConfig::new()
        .server(url)
        .names("counter", "counter", "counter")
        .timeout(Duration::from_secs(2))
        .watch_every(Duration::from_secs(1));
    stubborn(|| Nats::connect(config.clone()))
}

/// Again, while it is the connection that is in the way.
fn stubborn<T>(mut call: impl FnMut() -> esker::Result<T>) -> esker::Result<T> {
    let begun = Instant::now();
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Disconnected && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// One of the processes that count.
struct Counter {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Counter {
    fn start(url: &str) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args([CHILD, url]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("an output")?);
        Ok(Self { child, answers })
    }

    fn kill(&mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn ask(&mut self) -> Outcome<String> {
        self.child.stdin.as_mut().ok_or("an input")?.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            Err("a process ended without an answer".into())
        } else {
            Ok(line.trim().to_owned())
        }
    }

    fn stop(&mut self) -> Outcome<u64> {
        Ok(self.ask()?.parse()?)
    }

    fn digest(&mut self) -> Outcome<String> {
        self.ask()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The server, in a directory of its own.
struct Server {
    directory: PathBuf,
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Outcome<Self> {
        let directory = std::env::temp_dir().join(format!("esker-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let child = spawn_server(&directory, "-1")?;
        let file = directory.join(format!("nats-server_{}.ports", child.id()));
        let mut server = Self { directory, child, port: 0 };
        let begun = Instant::now();
        while server.port == 0 {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let digits = text.split_once("nats://127.0.0.1:").and_then(|(_, rest)| rest.split('"').next());
            server.port = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            if begun.elapsed() > PATIENCE {
                return Err("nats-server does not say where it listens".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn revive(&mut self) -> Outcome {
        self.child = spawn_server(&self.directory, &self.port.to_string())?;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("nats-server ended with {status}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn_server(directory: &Path, port: &str) -> Outcome<Child> {
    let mut command = Command::new("nats-server");
    command.args(["-js", "-a", "127.0.0.1", "-p", port, "--ports_file_dir"]).arg(directory);
    let spawned =
        command.arg("-sd").arg(directory.join("streams")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned
        .map_err(|error| format!("nats-server cannot be run ({error}): `apt-get install nats-server`").into())
}

/// Numbers that look random, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    fn one_of<'t>(&mut self, these: &[&'t str]) -> Option<&'t str> {
        these.get(usize::try_from(self.below(these.len() as u64)).ok()?).copied()
    }
}

//! The journal of one machine beside NATS JetStream on the same machine, by the same calls. `nats-server` is started here, as it comes:
//! what it acknowledges is not synced, so the journal stands beside it under both durabilities.
//!
//! ```sh
//! cargo bench --features nats --bench nats        # Debian: apt-get install nats-server
//! ```
//!
//! Figures mean something only against each other, within one run.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark talks to the person who runs it")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use esker::backplane::{Append, Backplane, Filter, Local, Nats, NatsConfig, Offset, Stamp, Step, WriterId};
use esker::{At, Durability, Fold, FoldOptions, Options, Store, Topic};

const NUMBERS: Topic<u64> = Topic::new("number");
const PATIENCE: Duration = Duration::from_secs(120);
const WRITERS: u64 = 8;

struct Count;
impl Fold for Count {
    type State = u64;
    type Event = u64;
    const NAME: &'static str = "count";
    const VERSION: u32 = 1;
    fn fold(count: &mut u64, _: u64, _: &At) {
        *count += 1;
    }
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    for durability in [Durability::Os, Durability::Sync] {
        let path = directory.path().join(format!("{durability:?}.esker"));
        let journal = Options::new().durability(durability).open(path).unwrap();
        let times = if durability == Durability::Os { 20_000 } else { 500 };
        measure(&format!("journal, {durability:?}"), Arc::new(Local::owning(journal).unwrap()), times);
    }
    let server = Server::start(&directory.path().join("nats"));
    measure("JetStream, not synced", Arc::new(server.connect()), 5_000);
}

fn measure(name: &str, plane: Arc<dyn Backplane>, times: u64) {
    println!("{name}");
    let store = Store::in_memory().unwrap().with_backplane(Arc::clone(&plane));
    let say = |what: &str, count: u64, begun: Instant| {
        let rate = f64::from(u32::try_from(count).unwrap()) / begun.elapsed().as_secs_f64();
        println!("  {what:<34} {rate:>10.0} /s");
    };
    let begun = Instant::now();
    let topic = store.topic(NUMBERS, "one").unwrap();
    (0..times).for_each(|number| _ = topic.append(&number).unwrap());
    say("appends, one behind the other", times, begun);

    let begun = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let topic = store.topic(NUMBERS, format!("of {writer}")).unwrap();
            scope.spawn(move || (0..times).for_each(|number| _ = topic.append(&number).unwrap()));
        }
    });
    say("appends by 8, a topic each", times * WRITERS, begun);

    let begun = Instant::now();
    for first in (0..times).step_by(100) {
        let numbers: Vec<[u8; 8]> = (first..first + 100).map(u64::to_le_bytes).collect();
        let steps = numbers.iter().zip(first + 1..).map(|(bytes, n)| {
            Step::Append(Append::new("raw", b"batch", bytes, Stamp::new(WriterId::from_raw(7), n)))
        });
        plane.commit(&steps.collect::<Vec<_>>()).unwrap();
    }
    say("appends, 100 in a commit", times, begun);

    let begun = Instant::now();
    let mut feed = plane.subscribe(Filter::stream("number"), Offset::BEGINNING).unwrap();
    (0..times * (WRITERS + 1)).for_each(|_| _ = feed.next_timeout(PATIENCE).unwrap().unwrap());
    say("records read from the beginning", times * (WRITERS + 1), begun);

    let begun = Instant::now();
    let fold = topic.fold_with::<Count>(FoldOptions::new().images_every(0)).unwrap();
    assert_eq!(fold.read_after(topic.head().unwrap(), PATIENCE).unwrap().value, times);
    say("a fold of one topic, cold", times, begun);

    let begun = Instant::now();
    for number in 0..times / 5 {
        let offset = topic.append(&number).unwrap();
        fold.read_after(offset, PATIENCE).unwrap();
    }
    say("append, until the fold has it", times / 5, begun);

    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            let cell = store.cells().cell::<u64>("count").unwrap();
            scope.spawn(move || {
                (0..times / 20)
                    .for_each(|_| _ = cell.update(|count| Ok(Some(count.unwrap_or(0) + 1))).unwrap());
            });
        }
    });
    say("updates of one cell by 8", times / 20 * WRITERS, begun);
    assert_eq!(store.cells().cell::<u64>("count").unwrap().load().unwrap().value, Some(times / 20 * WRITERS));
    drop(fold);
    store.close().unwrap();
    plane.close().unwrap();
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(directory: &Path) -> Self {
        std::fs::create_dir(directory).unwrap();
        let child = Command::new("nats-server")
            .args(["-js", "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"])
            .arg(directory)
            .arg("-sd")
            .arg(directory.join("streams"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is needed: apt-get install nats-server");
        let ports = directory.join(format!("nats-server_{}.ports", child.id()));
        let port = until(|| {
            let text = std::fs::read_to_string(&ports).ok()?;
            text.split_once("nats://127.0.0.1:")?.1.split('"').next()?.parse().ok()
        });
        Self { child, port }
    }

    /// It listens before it has its streams.
    fn connect(&self) -> Nats {
        until(|| Nats::connect(NatsConfig::new().server(format!("nats://127.0.0.1:{}", self.port))).ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until<T>(mut answer: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

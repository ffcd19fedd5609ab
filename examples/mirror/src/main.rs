//! A SQLite file that is kept equal to a kind of live state, in a process that is killed at random, again and again: in
//! the end the file and the store have the same rows.
//!
//! ```sh
//! cargo run --release --manifest-path examples/mirror/Cargo.toml -- [DIRECTORY] [--kills N] [--os]
//! ```
//!
//! The child process says things of vessels, and mirrors them; the parent kills it, and compares row for row when it is
//! dead. `--os` leaves it to the operating system when what is appended reaches the disk; what the mirror hands over
//! is durable all the same. Without a directory a fresh one is made under the system's temporary directory. It stays there,
//! to be looked at.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use esker::{
    CompactOptions, Durability, Kind, Mirror, MirrorOutcome, Options, Patch, Reader, Source, Store, Window,
};
use serde::{Deserialize, Serialize};

mod sqlite;
use sqlite::Sqlite;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// What is known of a vessel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
struct Vessel {
    #[serde(default)]
    name: String,
    #[serde(default)]
    knots: f64,
    #[serde(default)]
    cargo: Option<String>,
}

const VESSEL: Kind<Vessel> = Kind::new("vessel");

/// This program, told to be the one that is killed.
const CHILD: &str = "--until-killed";
/// This program, told to do always the same, and to end: what the tests interrupt.
const SCRIPT: &str = "--script";
/// This program, told to say a little more behind the script, and to mirror nothing of it.
const MORE: &str = "--more";
/// This program, told to mirror from beside, as another process than the writer's does.
const BESIDE: &str = "--script-beside";
/// A file that only [`BESIDE`] keeps.
const FILE_BESIDE: &str = "beside.sqlite";
/// This program, told to bring the file up to now and to compare.
const CHECK: &str = "--check";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
struct Arguments {
    role: Option<String>,
    directory: PathBuf,
    kills: u32,
    durability: Durability,
}

impl Arguments {
    fn read() -> Result<Self> {
        let (mut role, mut directory, mut kills, mut durability) = (None, None, 50, Durability::Sync);
        let mut words = std::env::args_os().skip(1);
        while let Some(word) = words.next() {
            match word.to_str() {
                Some(CHILD | SCRIPT | MORE | BESIDE | CHECK) => role = word.into_string().ok(),
                Some("--os") => durability = Durability::Os,
                Some("--kills") => {
                    let number = words.next().and_then(|number| number.into_string().ok());
                    kills = number.ok_or("--kills N")?.parse()?;
                }
                _ => directory = Some(PathBuf::from(word)),
            }
        }
        let directory = directory.unwrap_or_else(fresh_directory);
        std::fs::create_dir_all(&directory)?;
        Ok(Self { role, directory, kills, durability })
    }

    fn open(&self) -> Result<Store> {
        // Small segments, so that there is something to compact.
        let mut options = Options::new().durability(self.durability).segment_bytes(256 << 10);
        if matches!(self.role.as_deref(), Some(SCRIPT | MORE)) {
            // In one thread, system calls come in one order.
            options = options.segment_bytes(4 << 10).background(false).window(Window::Manual);
        }
        Ok(Store::over(options.open(self.directory.join("harbour.esker"))?))
    }

    fn mirror(&self, store: &Store) -> Result<Mirror<Vessel, Sqlite>> {
        let sqlite = Sqlite::open(&self.directory.join("harbour.sqlite"))?;
        // Under a name, compaction waits for what the file does not have yet.
        Ok(store.mirror(VESSEL).named("sqlite").start(sqlite)?)
    }
}

fn fresh_directory() -> PathBuf {
    std::env::temp_dir().join(format!("esker-mirror-{}", std::process::id()))
}

fn run() -> Result<()> {
    let arguments = Arguments::read()?;
    match arguments.role.as_deref() {
        Some(CHILD) => say_and_mirror(&arguments),
        Some(SCRIPT) => follow_the_script(&arguments),
        Some(MORE) => say_more(&arguments),
        Some(BESIDE) => mirror_from_beside(&arguments),
        Some(_) => check(&arguments).map(drop),
        None => kill_again_and_again(&arguments),
    }
}

/// What the parent does.
fn kill_again_and_again(arguments: &Arguments) -> Result<()> {
    let mut chance = Chance(u64::from(std::process::id()) | 1);
    println!("in {}", arguments.directory.display());
    for kill in 1..=arguments.kills {
        run_and_kill(arguments, &mut chance)?;
        let rows = check(arguments)?;
        if kill % 10 == 0 {
            println!("{kill:>4} kills; {rows} rows, the same in the file");
        }
    }
    Ok(())
}

/// Starts the child, lets it hand over a number of times, and kills it.
fn run_and_kill(arguments: &Arguments, chance: &mut Chance) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CHILD).arg(&arguments.directory).stdout(Stdio::piped());
    if arguments.durability == Durability::Os {
        command.arg("--os");
    }
    let mut child = command.spawn()?;
    let rounds = usize::try_from(chance.below(20))?;
    let said = BufReader::new(child.stdout.take().ok_or("what the child says")?).lines();
    let heard = said.take(rounds + 1).count();
    // Somewhere in what it does next.
    std::thread::sleep(std::time::Duration::from_micros(chance.below(3000)));
    child.kill()?;
    child.wait()?;
    if heard <= rounds { Err("the child ended by itself".into()) } else { Ok(()) }
}

/// What the child does: one thread says things, one compacts, and this one mirrors.
fn say_and_mirror(arguments: &Arguments) -> Result<()> {
    let store = arguments.open()?;
    let mut mirror = arguments.mirror(&store)?;
    let monitor = mirror.monitor();
    std::thread::scope(|scope| {
        scope.spawn(|| say_for_ever(&store).expect("operations"));
        scope.spawn(|| {
            loop {
                store.journal().compact(&CompactOptions::new()).expect("a compaction");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        scope.spawn(|| {
            let mut handed_over = 0;
            loop {
                let status = monitor.status();
                let now = status.replacements + status.applications;
                for _ in handed_over..now {
                    // Whoever listens may be gone, and we with it.
                    let _ = std::io::stdout().write_all(b"handed over\n");
                }
                handed_over = now;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        Ok(mirror.run()?)
    })
}

fn say_for_ever(store: &Store) -> Result<()> {
    let sources = [store.source("radar")?, store.source("pilot")?];
    let mut chance = Chance(u64::from(std::process::id()) | 1);
    loop {
        let source = &sources[usize::from(chance.below(2) == 0)];
        say(source, &format!("mmsi:{}", chance.below(200)), &mut chance)?;
        if chance.below(50) == 0 {
            store.flush()?;
        }
    }
}

fn say(source: &Source, key: &str, chance: &mut Chance) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "it is less than 30")]
    let knots = chance.below(30) as f64;
    match chance.below(10) {
        0..5 => {
            let row = Vessel { name: key.to_owned(), knots, cargo: None };
            source.assert(VESSEL, key, &row)?
        }
        5..8 => {
            source.patch(VESSEL, key, &Patch::new().set("cargo", &Some(format!("{knots} containers")))?)?
        }
        _ => source.retract(VESSEL, key)?,
    };
    Ok(())
}

/// Every way in which a row comes and goes, with a round behind each; so short that each of its system calls can be interrupted.
fn follow_the_script(arguments: &Arguments) -> Result<()> {
    let store = arguments.open()?;
    let (radar, pilot) = (store.source("radar")?, store.source("pilot")?);
    let mut mirror = arguments.mirror(&store)?;
    let vessel = |name: &str, knots| Vessel { name: name.to_owned(), knots, cargo: None };
    for name in ["ada", "grace", "joan"] {
        radar.assert(VESSEL, name, &vessel(name, 1.0))?;
    }
    store.flush()?;
    mirror.catch_up()?;
    for knots in 2..30 {
        radar.assert(VESSEL, "ada", &vessel("ada", f64::from(knots)))?;
        store.flush()?;
    }
    pilot.assert(VESSEL, "grace", &vessel("grace", 1.0))?;
    radar.retract(VESSEL, "joan")?;
    store.flush()?;
    mirror.catch_up()?;
    radar.assert(VESSEL, "joan", &vessel("joan", 7.0))?;
    store.flush()?;
    store.journal().compact(&CompactOptions::new().thorough(true))?;
    mirror.catch_up()?;
    radar.retract(VESSEL, "ada")?;
    store.flush()?;
    drop((radar, pilot, mirror));
    Ok(store.close()?)
}

/// Changes of each sort that the file does not have yet. Nothing is compacted: from beside nobody holds that back.
fn say_more(arguments: &Arguments) -> Result<()> {
    let store = arguments.open()?;
    let radar = store.source("radar")?;
    for name in ["grace", "mary"] {
        radar.assert(VESSEL, name, &Vessel { name: name.to_owned(), knots: 9.0, cargo: None })?;
        store.flush()?;
    }
    radar.retract(VESSEL, "joan")?;
    store.flush()?;
    drop(radar);
    Ok(store.close()?)
}

/// Brings two files up to now as another process than the writer's: one that lacks something, and one that has nothing.
fn mirror_from_beside(arguments: &Arguments) -> Result<()> {
    let reader = Reader::open(arguments.directory.join("harbour.esker"))?;
    for file in ["harbour.sqlite", FILE_BESIDE] {
        let sqlite = Sqlite::open(&arguments.directory.join(file))?;
        let mut mirror = reader.mirror(VESSEL).start(sqlite)?;
        mirror.catch_up()?;
        if !matches!(mirror.catch_up()?, MirrorOutcome::Nothing { .. }) {
            return Err(format!("{file} is not up to now behind a round").into());
        }
    }
    Ok(())
}

/// Brings the file up to now, as the next process would, and compares. Answers how many rows there are.
fn check(arguments: &Arguments) -> Result<usize> {
    let store = arguments.open()?;
    let mut mirror = arguments.mirror(&store)?;
    // What the dead process left is what its token says, whatever it was about to do. Its name has held back all the rest.
    if let MirrorOutcome::Replaced { because: Some(because), .. } = mirror.catch_up()? {
        return Err(format!("all the rows were handed over again: {because:?}").into());
    }
    let rows = compare(&store, &mirror.into_target())?;
    let beside = arguments.directory.join(FILE_BESIDE);
    if beside.exists() {
        compare(&store, &Sqlite::open(&beside)?)?;
    }
    store.close()?;
    Ok(rows)
}

/// Compares the store and the file row for row: key, version and value. Answers how many rows there are.
fn compare(store: &Store, sqlite: &Sqlite) -> Result<usize> {
    let mut mirrored = sqlite.rows()?;
    let mut rows = 0;
    for row in store.scan(VESSEL)? {
        let row = row?;
        let expected = (row.version(), row.value()?);
        let found = mirrored.remove(row.key());
        if found.as_ref() != Some(&expected) {
            let key = String::from_utf8_lossy(row.key());
            return Err(format!("drift: {key} is {expected:?}, and in the file {found:?}").into());
        }
        rows += 1;
    }
    match mirrored.keys().next() {
        Some(key) => Err(format!("drift: {} is only in the file", String::from_utf8_lossy(key)).into()),
        None => Ok(rows),
    }
}

/// A small source of chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

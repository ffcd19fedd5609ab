//! Live state beside a writer that is another process: killed, leaving what is not durable, or followed by one.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use esker::{
    Because, Behind, CompactOptions, Durability, ErrorKind, Marker, Options, Reader, Region, StateItem,
    Store, SubscribeOptions, Token, Until, Window,
};

use super::{LONG, gather, open};
use crate::events::LOGGED;
use crate::following::{Folded, fold, scanned};
use crate::harbour::{VESSEL, Vessel, change_often, told, vessel};

/// The other process, which is this same program.
const ROLE: &str = "ESKER_TEST_STATE_ROLE";
const PLACE: &str = "ESKER_TEST_STATE_STORE";

/// Not a test of its own: what a child process does.
#[test]
fn role_of_a_child_process() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(PLACE)) else { return };
    let path = Path::new(&path);
    match role.as_str() {
        "writes" => write_for_ever(path),
        "leaves what is not durable" => leave_what_is_not_durable(path),
        "leaves what came while it was followed" => leave_what_came_while_it_was_followed(path),
        "follows" => follow_to_the_end(path),
        other => panic!("no role {other}"),
    }
}

pub(crate) fn start(role: &str, store: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "beside::processes::role_of_a_child_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(PLACE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The first line that begins so.
pub(crate) fn heard(child: &mut Child, beginning: &str) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines.find_map(|line| line.unwrap().split_once(beginning).map(|(_, rest)| rest.to_owned())).unwrap()
}

/// Asserts, patches and retracts some fifty entities, and compacts now and then.
fn write_for_ever(path: &Path) {
    let options = Options::new().segment_bytes(16384).window(Window::Every(Duration::from_millis(1)));
    let store = Store::over(options.open(path).unwrap());
    let radar = store.source("radar").unwrap();
    let mut n = u64::from(std::process::id());
    for round in 0u32.. {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("v{}", (n >> 33) % 50);
        let row = Vessel { heading: u16::try_from(n >> 48).unwrap(), ..vessel(&key, 1.0) };
        match (n >> 20) % 10 {
            0..7 => radar.assert(LOGGED, &key, &row).unwrap(),
            _ => radar.retract(LOGGED, &key).unwrap(),
        };
        if round % 64 == 63 {
            store.flush().unwrap();
            say(&format!("wrote {round}"));
        }
        if round % 1024 == 1023 {
            store.journal().compact(&CompactOptions::new()).unwrap();
        }
    }
}

/// One row that is durable, and others that are not.
fn leave_what_is_not_durable(path: &Path) {
    let store = open(path, Durability::Os);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    store.journal().sync().unwrap();
    change_often(&store, &radar, "ada", 3);
    change_often(&store, &radar, "ghost", 1);
    say("left");
    std::process::abort();
}

/// One row that is durable; once it is told to go on, an update of it that is not.
fn leave_what_came_while_it_was_followed(path: &Path) {
    let store = open(path, Durability::Os);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 1.0)).unwrap();
    store.flush().unwrap();
    store.journal().sync().unwrap();
    say("begun");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    change_often(&store, &radar, "ada", 1);
    say("left");
    std::process::abort();
}

/// Follows until an entity says that it is over, and says what it has gathered then.
fn follow_to_the_end(path: &Path) {
    let reader = Reader::open(path).unwrap();
    let mut changes = reader.subscription(LOGGED).behind(Behind::Resume).capacity(16).start().unwrap();
    let mut folded = Folded::new();
    while !folded.contains_key(&b"over"[..]) {
        let item = changes.next_timeout(LONG).unwrap().expect("there is more within a minute");
        let is_complete = matches!(item, StateItem::Marker(Marker::BootstrapComplete { .. }));
        fold(&mut folded, &item);
        if is_complete {
            say("follows");
        }
    }
    let versions: Vec<String> = folded.iter().map(|(key, row)| format!("{key:?} {row:?}")).collect();
    say(&format!("gathered {}", versions.join(";")));
}

#[test]
fn a_follower_goes_on_over_writers_of_another_process_that_are_killed_and_compact() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    open(&path, Durability::Sync).close().unwrap();
    let mut changes = Reader::open(&path)
        .unwrap()
        .subscription(LOGGED)
        .behind(Behind::Resume)
        .capacity(64)
        .start()
        .unwrap();
    let mut slow = Reader::open(&path).unwrap().subscription(LOGGED).behind(Behind::Full).start().unwrap();
    let (mut folded, mut folded_slow) = (Folded::new(), Folded::new());
    let mut kept: Option<(Folded, Token)> = None;
    for kill in 0..6u64 {
        let mut writer = start("writes", &path);
        heard(&mut writer, "wrote ");
        let until = Instant::now() + Duration::from_millis(150 + 100 * kill);
        let mut items = 0;
        while Instant::now() < until {
            match changes.next_timeout(Duration::from_millis(20)).unwrap() {
                Some(item) => fold(&mut folded, &item),
                None => continue,
            }
            items += 1;
        }
        assert!(items > 0, "kill {kill}: nothing came while it wrote");
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Nobody writes. What is known to be durable is one moment, which a token names.
        gather(&mut changes, &mut folded);
        let token = changes.token().unwrap().unwrap();
        let store = open(&path, Durability::Sync);
        if let Some((mut before, token)) = kept.take() {
            let mut resumed =
                store.subscription(LOGGED).behind(Behind::Resume).resume(token).start().unwrap();
            gather(&mut resumed, &mut before);
            assert_eq!(before, scanned(&store), "kill {kill}: from the token before the last kill");
        }
        kept = Some((folded.clone(), token));
        let radar = store.source("radar").unwrap();
        radar.assert(LOGGED, format!("kill {kill}"), &vessel("k", 1.0)).unwrap();
        store.flush().unwrap();
        gather(&mut changes, &mut folded);
        gather(&mut slow, &mut folded_slow);
        assert_eq!(folded, scanned(&store), "kill {kill}");
        assert_eq!(folded_slow, scanned(&store), "kill {kill}: who looks only now and then");
        drop(radar);
        store.close().unwrap();
    }
}

#[test]
fn a_follower_in_another_process_gathers_what_the_writer_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut store = open(&path, Durability::Sync);
    let mut followers = [start("follows", &path), start("follows", &path)];
    followers.iter_mut().for_each(|follower| _ = heard(follower, "follows"));
    let mut n = 7u64;
    for round in 0..6 {
        let radar = store.source("radar").unwrap();
        for _ in 0..300 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("v{}", (n >> 33) % 20);
            let row = Vessel { heading: u16::try_from(n >> 48).unwrap(), ..vessel(&key, 1.0) };
            match (n >> 20) % 10 {
                0..7 => radar.assert(LOGGED, &key, &row).unwrap(),
                _ => radar.retract(LOGGED, &key).unwrap(),
            };
            if n.is_multiple_of(3) {
                store.flush().unwrap();
            }
        }
        store.flush().unwrap();
        store.journal().compact(&CompactOptions::new()).unwrap();
        if round == 5 {
            radar.assert(LOGGED, "over", &vessel("over", 1.0)).unwrap();
            store.flush().unwrap();
        }
        drop(radar);
        store.close().unwrap();
        store = open(&path, Durability::Sync);
    }
    let expected: Vec<String> = scanned(&store).iter().map(|(key, row)| format!("{key:?} {row:?}")).collect();
    for mut follower in followers {
        assert_eq!(heard(&mut follower, "gathered "), expected.join(";"));
        assert!(follower.wait().unwrap().success());
    }
}

#[test]
fn what_a_killed_writer_left_is_told_once_it_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut writer = start("leaves what is not durable", &path);
    heard(&mut writer, "left");
    assert!(!writer.wait().unwrap().success());
    let reader = Reader::open(&path).unwrap();
    let mut changes = reader.subscription(VESSEL).start().unwrap();
    assert_eq!(told(&mut changes), ["begin false None", "ada v1 is", "complete false"]);
    let token = changes.token().unwrap().unwrap();
    // The next one finds it, and makes it durable.
    let store = open(&path, Durability::Os);
    assert_eq!(told(&mut changes).len(), 4);
    assert_ne!(changes.token().unwrap(), Some(token));
    store.close().unwrap();
}

/// What a power cut does to what was not durable.
pub(crate) fn lose(path: &Path, segment: u32, offset: u64) {
    let file = path.join(format!("{segment:010}.seg"));
    let file = std::fs::File::options().write(true).open(file).unwrap();
    let zeros = vec![0; usize::try_from(file.metadata().unwrap().len() - offset).unwrap()];
    std::os::unix::fs::FileExt::write_all_at(&file, &zeros, offset).unwrap();
}

#[test]
fn a_follower_does_not_go_on_over_a_log_that_was_rewound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("harbour.esker");
    let mut writer = start("leaves what is not durable", &path);
    heard(&mut writer, "left");
    writer.wait().unwrap();
    let reader = Reader::open(&path).unwrap();
    let follow = |until| reader.subscription(VESSEL).until(until).start().unwrap();
    let (mut durable, mut visible) = (follow(Until::Durable), follow(Until::Visible));
    let mut entries = reader.subscribe(Region::all(), SubscribeOptions::new()).unwrap();
    assert_eq!(told(&mut durable).len(), 3);
    assert_eq!(told(&mut visible).len(), 3 + 4);
    let token = durable.token().unwrap().unwrap();
    assert_eq!(visible.token().unwrap(), None);
    // A power cut takes what was not durable, though these two were not there to see it.
    let view = reader.view().unwrap();
    let lost =
        view.get(esker::Seq::new(token.seq().unwrap().get() + 1).unwrap()).unwrap().unwrap().position();
    lose(&path, lost.segment(), lost.offset());
    let store = open(&path, Durability::Sync);
    let radar = store.source("radar").unwrap();
    radar.assert(VESSEL, "grace", &vessel("Grace", 1.0)).unwrap();
    radar.assert(VESSEL, "ada", &vessel("Ada", 9.0)).unwrap();
    store.flush().unwrap();
    for changes in [&mut durable, &mut visible] {
        let mut folded = Folded::new();
        let Some(StateItem::Marker(Marker::BootstrapBegin { rebootstrap: true, because })) =
            changes.try_next().unwrap()
        else {
            panic!("it begins anew")
        };
        assert_eq!(because, Some(Because::Rewound));
        gather(changes, &mut folded);
        assert_eq!(folded, scanned(&store));
    }
    for _ in 0..2 {
        assert_eq!(entries.advance().unwrap_err().kind(), ErrorKind::Rewound, "entries are what they are");
    }
    assert_eq!(reader.view().map(drop).unwrap_err().kind(), ErrorKind::Rewound);
    // The token is of a moment that was durable: it goes on from there, of whichever reader.
    for reader in [reader, Reader::open(&path).unwrap()] {
        let mut resumed = reader.subscription(VESSEL).resume(token).start().unwrap();
        assert_eq!(told(&mut resumed), ["grace v1 created", r#"ada v2 updated ["knots"]"#]);
    }
}

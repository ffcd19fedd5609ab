//! What meets an ending halfway: each test stands between its beginning and its end, where another thread could.

use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::disk::simulator::Simulator;
use crate::format::source::Liveness;
use crate::journal::Journal;
use crate::journal::entry::OwnedEntry;
use crate::journal::record::Record;
use crate::journal::registry::SESSIONS_NAME;
use crate::options::{Options, Window};
use crate::state::engine::Pulse;
use crate::state::kind::Kind;
use crate::state::reading::row;
use crate::state::sessions::{Heartbeat, SourceOptions, Who};
use crate::state::source::Source;

const BUOY: Kind<Buoy> = Kind::new("buoy");
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(serde::Serialize, serde::Deserialize)]
struct Buoy {
    is_lit: bool,
}

struct Harbour {
    clock: ManualClock,
    journal: Journal,
    core: Arc<Core>,
    state: Arc<State>,
}

fn mortal() -> SourceOptions {
    SourceOptions::new().liveness(Liveness::Deadline(DEADLINE))
}

fn by_hand() -> SourceOptions {
    mortal().heartbeat(Heartbeat::ByHand)
}

impl Harbour {
    fn new() -> Self {
        Self::over(Options::new(), Options::in_memory)
    }

    fn over(options: Options, open: impl FnOnce(&Options) -> Result<Journal>) -> Self {
        let clock = ManualClock::new();
        let options = options.background(false).window(Window::Manual).clock(clock.clone());
        let journal = open(&options).unwrap();
        let core = Arc::clone(journal.core());
        let state = State::of(&core);
        Self { clock, journal, core, state }
    }

    fn claim(&self, name: &str, options: SourceOptions) -> Result<Source> {
        Source::claim(&self.journal, Who::Named(name), options)
    }

    fn flush(&self) {
        self.state.flush(&self.core).unwrap();
    }

    /// What presence was told of a source.
    fn told(&self, name: &str) -> Vec<OwnedEntry> {
        let kind = self.journal.kind_named(SESSIONS_NAME).unwrap().id;
        self.journal.view().entity(kind, name.as_bytes()).map(|entry| entry.unwrap().to_owned()).collect()
    }

    fn say(&self, source: &Source, key: &str) {
        source.assert(BUOY, key, &Buoy { is_lit: true }).unwrap();
        self.state.append(&self.core).unwrap();
    }

    /// Somebody begins to end whoever is silent.
    fn begin(&self) -> Option<Round> {
        self.state.begin_endings(&self.core).unwrap()
    }

    /// And goes on to the end.
    fn finish(&self, round: Round) -> u64 {
        let taken = self.state.take_back(&self.core, Whose::Ended(round)).and_then(Taken::all).unwrap();
        self.state.finish_endings(&self.core, round, Came::ToAnEnd).unwrap();
        taken
    }

    /// So much later somebody looks.
    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.flush();
    }

    fn is_there(&self, key: &str) -> bool {
        let kind = self.journal.kind_named("buoy").unwrap().id;
        row(&self.journal.view(), kind, BUOY, key.as_bytes()).unwrap().is_some()
    }

    fn is_settled(&self, name: &str) -> bool {
        self.journal.sources().iter().any(|source| source.name == name && source.settled)
    }
}

#[test]
fn what_a_source_says_that_came_back_and_fell_silent_again_is_taken_back_behind_the_first_ending() {
    let harbour = Harbour::new();
    let radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.say(&radar, "old");
    harbour.clock.advance(DEADLINE);
    let first = harbour.begin().unwrap();
    harbour.say(&radar, "new");
    harbour.clock.advance(DEADLINE);
    assert_eq!(harbour.begin(), None, "it is being ended already");
    assert_eq!(harbour.finish(first), 1);
    assert!(harbour.is_there("new") && !harbour.is_settled("radar"));
    harbour.flush();
    assert!(!harbour.is_there("new") && harbour.is_settled("radar"), "at the next look, not later");
}

#[test]
fn an_ending_that_is_done_leaves_those_that_run_and_what_live_sources_say_stays() {
    let harbour = Harbour::new();
    let radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.say(&radar, "old");
    harbour.clock.advance(DEADLINE);
    let first = harbour.begin().unwrap();
    harbour.say(&radar, "new");
    harbour.clock.advance(DEADLINE);
    let second = harbour.begin();
    harbour.finish(first);
    let third = harbour.begin().unwrap();
    drop(radar);
    let radar = harbour.claim("radar", SourceOptions::new()).unwrap();
    harbour.say(&radar, "new");
    assert_eq!((second, harbour.finish(third)), (None, 0));
    assert!(harbour.is_there("new") && !harbour.is_there("old") && !harbour.is_settled("radar"));
}

#[test]
fn a_sign_of_life_of_a_source_that_is_to_be_ended_again_begins_its_time_anew() {
    let harbour = Harbour::new();
    let radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.clock.advance(DEADLINE);
    let first = harbour.begin().unwrap();
    harbour.say(&radar, "new");
    harbour.clock.advance(DEADLINE);
    assert_eq!(harbour.begin(), None);
    radar.heartbeat().unwrap();
    harbour.finish(first);
    harbour.pass(DEADLINE - Duration::from_millis(1));
    assert!(harbour.is_there("new"));
    harbour.pass(Duration::from_millis(1));
    assert!(!harbour.is_there("new"));
}

#[test]
fn whoever_closes_a_source_while_it_is_being_ended_takes_back_what_it_said_meanwhile() {
    let harbour = Harbour::new();
    let worker = Source::claim(&harbour.journal, Who::Anybody("worker"), by_hand()).unwrap();
    harbour.say(&worker, "old");
    harbour.clock.advance(DEADLINE);
    let round = harbour.begin().unwrap();
    harbour.say(&worker, "new");
    assert_eq!(worker.close(Closing::Retract).unwrap(), 2);
    let stranger = harbour.claim("stranger", SourceOptions::new()).unwrap();
    assert_eq!(stranger.id(), worker.id(), "the number was given back");
    harbour.say(&stranger, "another's");
    assert_eq!(harbour.finish(round), 0);
    assert!(harbour.is_there("another's") && !harbour.is_there("new"));
}

#[test]
fn whoever_retires_a_source_while_it_is_being_ended_takes_back_what_it_said_meanwhile() {
    let harbour = Harbour::new();
    let worker = harbour.claim("worker", by_hand()).unwrap();
    harbour.clock.advance(DEADLINE);
    let round = harbour.begin().unwrap();
    harbour.say(&worker, "new");
    drop(worker);
    assert_eq!(harbour.state.retire(&harbour.core, "worker", Closing::Retract).unwrap(), 1);
    harbour.say(&harbour.claim("stranger", SourceOptions::new()).unwrap(), "another's");
    assert_eq!(harbour.finish(round), 0);
    assert!(harbour.is_there("another's") && !harbour.is_there("new"));
}

#[test]
fn what_is_preserved_while_its_source_is_being_ended_stays() {
    let harbour = Harbour::new();
    let radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.say(&radar, "old");
    harbour.clock.advance(DEADLINE);
    let round = harbour.begin().unwrap();
    radar.heartbeat().unwrap();
    radar.close(Closing::Preserve).unwrap();
    assert_eq!(harbour.finish(round), 0);
    harbour.pass(DEADLINE * 9);
    assert!(harbour.is_there("old") && harbour.is_settled("radar"));
}

#[test]
fn time_that_is_up_while_a_session_is_being_closed_ends_nobody() {
    let harbour = Harbour::new();
    let radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.say(&radar, "old");
    let stopped = Stopped::of(&mut harbour.state.open.lock(), radar.id());
    harbour.clock.advance(DEADLINE);
    assert_eq!(harbour.begin(), None);
    // The close failed: it is as if nothing had been.
    stopped.go_on(&harbour.core, &mut harbour.state.open.lock(), radar.id());
    harbour.flush();
    assert!(!harbour.is_there("old"));
}

#[test]
fn an_ending_that_a_close_cut_short_which_failed_begins_again_a_heartbeat_later() {
    let harbour = Harbour::new();
    let radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.say(&radar, "old");
    harbour.clock.advance(DEADLINE);
    let round = harbour.begin().unwrap();
    let stopped = Stopped::of(&mut harbour.state.open.lock(), radar.id());
    assert_eq!(harbour.finish(round), 0);
    stopped.go_on(&harbour.core, &mut harbour.state.open.lock(), radar.id());
    harbour.pass(DEADLINE / 2 - Duration::from_millis(1));
    assert!(harbour.is_there("old"));
    harbour.pass(Duration::from_millis(1));
    assert!(!harbour.is_there("old") && harbour.is_settled("radar"));
}

#[test]
fn a_number_that_is_being_given_back_is_not_given_away_and_the_error_tells_of_it() {
    let harbour = Harbour::new();
    let all: Vec<Source> =
        (0..SOURCES_MAX).map(|n| harbour.claim(&format!("s{n}"), SourceOptions::new()).unwrap()).collect();
    let worker = all.into_iter().last().unwrap();
    let known = harbour.core.registry.read().sources().get(&worker.id()).cloned().unwrap();
    // The log has it that the source is retired; its session has not ended yet.
    harbour.core.put_source(SourceInfo { retired: true, ..known }).unwrap();
    let refused = harbour.claim("stranger", SourceOptions::new()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitReached);
    assert!(refused.to_string().contains("number 63 (being given back)"), "{refused}");
    drop(worker);
    assert_eq!(harbour.claim("stranger", SourceOptions::new()).unwrap().id(), 63);
}

#[test]
fn a_thread_that_waits_for_a_clock_that_is_moved_by_hand_waits_for_no_time_of_its_own() {
    let harbour = Harbour::new();
    let _radar = harbour.claim("radar", by_hand()).unwrap();
    harbour.clock.advance(DEADLINE - Duration::from_nanos(1));
    let open = harbour.state.open.lock();
    assert_eq!(open.sessions.countdowns.next(), Some(DEADLINE));
    assert_eq!(harbour.state.next_look(&harbour.core, &open), None);
    assert!(!harbour.state.is_due(&harbour.core, &open));
}

#[test]
fn news_that_could_not_be_told_are_the_newest_of_each_source_and_are_told_part_by_part() {
    let harbour = Harbour::new();
    let mut open = harbour.state.open.lock();
    for source in (0..10).chain(0..10).chain(0..10) {
        for because in [SessionEnd::Closed, SessionEnd::Dropped, SessionEnd::Deadline] {
            open.sessions.tell(&format!("s{source}"), SessionEvent::Ended { source, because });
        }
    }
    assert!(harbour.state.write_news(&harbour.core, &mut open), "there is more");
    let all = |harbour: &Harbour| (0..10).map(|n| harbour.told(&format!("s{n}")).len()).sum::<usize>();
    assert_eq!(all(&harbour), 16);
    while harbour.state.write_news(&harbour.core, &mut open) {}
    assert_eq!(all(&harbour), 40);
    let last = harbour.told("s7").pop().unwrap();
    let last: SessionEvent = crate::codec::decode(SESSIONS_NAME, 1, &last.entry()).unwrap();
    assert_eq!(last, SessionEvent::Ended { source: 7, because: SessionEnd::Deadline });
}

/// One that speaks, and one whose time is up.
fn speaker_and_silent(harbour: &Harbour) -> (Source, Source) {
    let speaker = harbour.claim("speaker", by_hand()).unwrap();
    let shorter = by_hand().liveness(Liveness::Deadline(DEADLINE * 2 / 3));
    let silent = harbour.claim("silent", shorter).unwrap();
    harbour.say(&speaker, "mine");
    harbour.say(&silent, "another's");
    harbour.clock.advance(DEADLINE * 2 / 3);
    (speaker, silent)
}

#[test]
fn a_sign_of_life_counts_also_when_ending_another_fails_on_the_way() {
    let disk = Simulator::new();
    let harbour = Harbour::over(Options::new().segment_bytes(16384), |options| options.open_in(&disk));
    let raw = harbour.journal.kind("raw").unwrap();
    let (speaker, _silent) = speaker_and_silent(&harbour);
    disk.limit_space(Some(0));
    while harbour.journal.append(Record::new(raw, b"k", b"v")).is_ok() {}
    assert_eq!(speaker.heartbeat().unwrap_err().kind(), ErrorKind::NoSpace);
    disk.limit_space(None);
    harbour.pass(DEADLINE / 3 + Duration::from_millis(1));
    assert!(harbour.is_there("mine") && !harbour.is_there("another's"));
}

#[test]
fn a_sign_of_life_counts_also_when_a_flush_failed_that_nobody_waited_for() {
    let harbour = Harbour::new();
    let (speaker, _silent) = speaker_and_silent(&harbour);
    harbour.flush();
    harbour.state.open.lock().untold.put(closed(&harbour.core, "radar"));
    assert!(speaker.assert(BUOY, "mine", &Buoy { is_lit: false }).is_err(), "it was told");
    harbour.pass(DEADLINE / 3 + Duration::from_millis(1));
    assert!(harbour.is_there("mine"));
}

#[test]
fn whoever_speaks_is_heard_before_others_are_ended() {
    let harbour = Harbour::new();
    let (speaker, silent) = speaker_and_silent(&harbour);
    harbour.pass(DEADLINE / 3);
    silent.heartbeat().unwrap();
    harbour.pass(DEADLINE * 2 / 3 - Duration::from_millis(1));
    harbour.clock.advance(Duration::from_millis(1));
    speaker.heartbeat().unwrap();
    let last = |name: &str| harbour.told(name).pop().unwrap().seq();
    assert!(last("speaker") < last("silent"), "it is back, and then the other is ended");
    assert_eq!((harbour.told("speaker").len(), harbour.told("silent").len()), (3, 4));
}

#[test]
fn whoever_claims_a_source_in_time_has_it_before_others_are_ended() {
    let harbour = Harbour::new();
    let (speaker, silent) = speaker_and_silent(&harbour);
    drop(speaker);
    harbour.clock.advance(DEADLINE / 3 - Duration::from_millis(1));
    let _speaker = harbour.claim("speaker", by_hand()).unwrap();
    let last = |name: &str| harbour.told(name).pop().unwrap().seq();
    assert!(last("speaker") < last(silent.name()), "what they are told to have done");
    assert!(harbour.is_there("mine") && !harbour.is_there("another's"));
}

#[test]
fn whoever_speaks_leaves_others_to_the_thread_that_ends_them_but_is_ended_itself_when_it_is_late() {
    let harbour = Harbour::new();
    let (speaker, _silent) = speaker_and_silent(&harbour);
    // It does nothing, so that one sees who does.
    harbour.state.open.lock().pulse = Pulse::Runs(std::thread::spawn(|| {}));
    speaker.heartbeat().unwrap();
    harbour.say(&speaker, "more");
    assert!(harbour.is_there("another's"));
    harbour.clock.advance(DEADLINE);
    speaker.heartbeat().unwrap();
    assert!(!harbour.is_there("mine") && !harbour.is_there("more"));
}

//! What keeps a consumer from going on, as far as the files tell, and what to do about it: for who watches, and for the page.

use std::path::Path;

use esker::dump::key_text;
use esker::{ParkedEntity, WrittenConsumer};

use super::consumers::{Gone, Standing, consumed_part, selector};
use crate::output::count_of;
use crate::typed::{on, quoted};

/// So often a record has failed when somebody has to look: fewer times anything may, and be done by the next attempt.
const FAILED_OFTEN: u32 = 3;

/// A consumer that does not go on, or leaves something behind.
#[derive(Clone, Debug)]
pub(crate) struct Stuck {
    /// It does nothing at all before somebody does something.
    pub(crate) is_halted: bool,
    pub(crate) what: String,
    /// The command to run.
    pub(crate) next: String,
}

/// What is wrong with a consumer, the worst first.
pub(crate) fn of(standing: &Standing, path: &Path) -> Vec<Stuck> {
    let consumer = &standing.consumer;
    let info = &consumer.info;
    let command = |word: &str| {
        format!("{} {} {}", on(&format!("consumer {word}"), path), quoted(&info.name), selector(consumer))
    };
    let mut found = Vec::new();
    let mut tell = |is_halted, what, next| found.push(Stuck { is_halted, what, next });
    if let Some(why) = &info.suspended {
        tell(true, format!("is suspended: {why}"), command("resume"));
    }
    if let Some(Gone::Ahead(why)) = &standing.gone {
        let what = format!(
            "stands behind the end of its log: {why}; it halts when it runs, whatever its options say; forgotten, it begins anew"
        );
        tell(true, what, command("retire"));
    }
    // What its options say stands in no file.
    if info.era.is_some() && !standing.same_era {
        let what = format!(
            "stands at offset {} of another era of the store: it goes on by itself if its options say how (`on_era_change`), and \
             halts when it runs if not; forgotten (`consumer retire`), it begins anew",
            info.position
        );
        tell(false, what, on("consumers", path));
    }
    if let Some(Gone::Lost(why)) = &standing.gone {
        let what = format!(
            "has lost records that it had not done: {why}; it goes on by itself if its options say so (`on_lost`), and halts \
             when it runs if not; forgotten (`consumer retire`), it begins anew"
        );
        tell(false, what, on("consumers", path));
    }
    if info.attempts >= FAILED_OFTEN {
        let why = info.last_error.as_deref().unwrap_or("no reason is written");
        let what = format!(
            "has tried the record behind offset {} {} times: {why}; nothing behind it is done before its handler can do that",
            info.position, info.attempts
        );
        tell(false, what, on("consumers", path));
    } else if info.crashes > 1 && info.suspended.is_none() {
        let what = format!(
            "had {} processes that ended without a word before the record behind offset {}",
            info.crashes, info.position
        );
        tell(false, what, on("lives", path));
    }
    if let Some(what) = parked(consumer) {
        tell(false, what, command("parked"));
    }
    found
}

/// What is set aside and waits for somebody.
fn parked(consumer: &WrittenConsumer) -> Option<String> {
    // What somebody has asked for to be tried again waits for the consumer, and for nobody else.
    let waiting = || consumer.parked.iter().filter(|entity| !entity.retries);
    let first = waiting().max_by_key(|entity| entity.records)?;
    let ParkedEntity { key, cause, attempts, .. } = first;
    let records = count_of(waiting().map(|entity| entity.records).sum(), "record");
    let entities = count_of(waiting().count() as u64, "entity");
    Some(format!(
        "has parked {records} of {entities}, of {} after {attempts} attempts: {cause}; they wait for `retry` or `discard`",
        key_text(key)
    ))
}

/// As a sentence about the consumer.
pub(crate) fn sentence(consumer: &WrittenConsumer, stuck: &Stuck) -> String {
    format!("consumer {:?} of {} {}", consumer.info.name, consumed_part(consumer), stuck.what)
}

//! What is connected to, and what a stream must be like.
//!
//! A stream that is there belongs to whoever operates it: it is looked at and never changed. One that would lose records
//! behind the back of those who read it is refused.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType};

use crate::backplane::PAYLOAD_BYTES_PORTABLE;
use crate::backplane::nats::message::HEADER_BYTES_MAX;
use crate::backplane::nats::names::{Names, is_token};
use crate::error::{Error, ErrorKind, Result};

/// Stamps are remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Where the server is, and what is used there.
///
/// Backplanes of the same stream, bucket and prefix are one.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is connected with"]
pub struct NatsConfig {
    pub(super) servers: Vec<String>,
    pub(super) stream: String,
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) replicas: usize,
    pub(super) timeout: Duration,
    pub(super) watch_every: Duration,
}

/// Without what the servers are told to let us in.
impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.servers_told())
            .field("stream", &self.stream)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("replicas", &self.replicas)
            .field("timeout", &self.timeout)
            .field("watch_every", &self.watch_every)
            .finish()
    }
}

/// A URL without user, password and token.
fn without_secrets(url: &str) -> String {
    // The last one: a password may have one that is not escaped.
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
    format!("{scheme}***@{host}")
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl NatsConfig {
    /// The stream `esker` and the bucket `esker`, with subjects that begin with `esker`, on `nats://127.0.0.1:4222`.
    pub fn new() -> Self {
        Self {
            servers: Vec::new(),
            stream: "esker".to_owned(),
            bucket: "esker".to_owned(),
            prefix: "esker".to_owned(),
            replicas: 1,
            timeout: Duration::from_secs(5),
            watch_every: Duration::from_secs(5),
        }
    }

    /// A server of the cluster, instead of the one of [`new`](Self::new). A second one is one more to try.
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.servers.push(url.into());
        self
    }

    /// The stream that has the records, the bucket that has the cells, and the first token of all subjects.
    ///
    /// Each of letters, digits, `-` and `_`.
    pub fn names(mut self, stream: &str, bucket: &str, prefix: &str) -> Self {
        (self.stream, self.bucket, self.prefix) = (stream.to_owned(), bucket.to_owned(), prefix.to_owned());
        self
    }

    /// So many servers have each record, where the streams are not there yet: 1 to 5, by default 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// A call that is not answered within this time is [`Disconnected`](ErrorKind::Disconnected): by default 5 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a feed that is silent asks whether it should be: by default every 5 seconds. What it asks for is the
    /// era and the newest record; a lost connection is noticed without.
    pub fn watch_every(mut self, interval: Duration) -> Self {
        self.watch_every = interval;
        self
    }

    pub(super) fn servers(&self) -> Vec<String> {
        if self.servers.is_empty() { vec!["nats://127.0.0.1:4222".to_owned()] } else { self.servers.clone() }
    }

    /// As they may stand in an error.
    pub(super) fn servers_told(&self) -> Vec<String> {
        self.servers().iter().map(|url| without_secrets(url)).collect()
    }

    pub(super) fn names_checked(&self) -> Result<Names> {
        let mut problems = Vec::new();
        for (what, name) in [("stream", &self.stream), ("bucket", &self.bucket), ("prefix", &self.prefix)] {
            if !is_token(name) || name.len() > 100 {
                problems.push(format!("the {what} {name:?} is not 1 to 100 letters, digits, `-` and `_`"));
            }
        }
        if !(1..=5).contains(&self.replicas) {
            problems.push(format!("{} replicas are not 1 to 5", self.replicas));
        }
        if self.timeout.is_zero() || self.watch_every.is_zero() {
            problems.push(format!(
                "timeout is {:?} and watch_every {:?}: each has to be more than 0",
                self.timeout, self.watch_every
            ));
        }
        if problems.is_empty() {
            let (stream, bucket, prefix) = (self.stream.clone(), self.bucket.clone(), self.prefix.clone());
            return Ok(Names { stream, bucket, prefix });
        }
        Err(Error::new(ErrorKind::InvalidOptions, self.connecting())
            .because(problems.join("; "))
            .advising("nothing was connected to: mend the `NatsConfig`"))
    }

    /// The stream of events as it is made where there is none.
    pub(super) fn events(&self, names: &Names) -> StreamConfig {
        StreamConfig {
            name: names.stream.clone(),
            subjects: vec![names.events()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            num_replicas: self.replicas,
            duplicate_window: REMEMBERED,
            max_messages_per_subject: -1,
            ..StreamConfig::default()
        }
    }

    /// The bucket as it is made where there is none: by hand, since what clients make asks for more than old servers know.
    pub(super) fn cells(&self, names: &Names) -> StreamConfig {
        StreamConfig {
            name: names.cells(),
            subjects: vec![names.cell_subjects()],
            max_messages_per_subject: 1,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: false,
            ..self.events(names)
        }
    }
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Events,
    Cells,
}

/// Refuses a stream that loses records, or is not what it is taken for.
pub(super) fn check(config: &StreamConfig, role: Role, names: &Names) -> Result<()> {
    let problems = problems_of(config, role, names);
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOptions, format!("use the stream {}", config.name)).because(format!(
        "{}; it was not changed: mend it with `nats stream edit`, or give another name",
        problems.join("; ")
    )))
}

fn problems_of(config: &StreamConfig, role: Role, names: &Names) -> Vec<String> {
    let mut problems = Vec::new();
    let wanted = if role == Role::Events { names.events() } else { names.cell_subjects() };
    // Deeper subjects are nobody's topics, and are not read.
    let is_wider = role == Role::Events && config.subjects == [names.events_and_deeper()];
    if config.subjects != [wanted.clone()] && !is_wider {
        problems.push(format!("its subjects are {:?} and not {wanted:?} alone", config.subjects));
    }
    if config.retention != RetentionPolicy::Limits {
        problems.push(format!("its retention is {:?} and not limits", config.retention));
    }
    if config.storage != StorageType::File {
        problems.push("it is in memory, and gone when the server is: its storage has to be file".to_owned());
    }
    if config.max_consumers > 0 {
        problems.push(format!(
            "it has at most {} consumers, and each feed may need one: its max consumers has to be -1",
            config.max_consumers
        ));
    }
    if !config.max_age.is_zero() {
        problems.push(format!("it drops what is older than {:?}: its max age has to be 0", config.max_age));
    }
    let is_limited = config.max_messages > 0 || config.max_bytes > 0;
    if is_limited && config.discard != DiscardPolicy::New {
        problems.push("at its limit it drops the oldest: a limit needs discard new".to_owned());
    }
    problems.extend(problem_with_subjects(config, role));
    if config.duplicate_window < REMEMBERED {
        problems.push(format!(
            "it knows a repetition for {:?} only: its duplicate window has to be {REMEMBERED:?}",
            config.duplicate_window
        ));
    }
    let needed = PAYLOAD_BYTES_PORTABLE + HEADER_BYTES_MAX;
    if usize::try_from(config.max_message_size).is_ok_and(|most| most > 0 && most < needed) {
        problems
            .push(format!("it takes messages of {} bytes, and {needed} are needed", config.max_message_size));
    }
    if config.no_ack || config.sealed || config.mirror.is_some() || config.sources.is_some() {
        problems.push("it does not acknowledge, is sealed, or is made of others".to_owned());
    }
    problems
}

fn problem_with_subjects(config: &StreamConfig, role: Role) -> Option<String> {
    match (role, config.max_messages_per_subject) {
        (Role::Cells, 1) => None,
        (Role::Cells, most) => Some(format!("it keeps {most} messages of a subject, and a cell is 1")),
        (Role::Events, most) if most <= 0 => None,
        (Role::Events, _) if config.discard == DiscardPolicy::New && config.discard_new_per_subject => None,
        (Role::Events, most) => {
            Some(format!("of a subject it drops all but {most}: that needs discard new per subject"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(role: Role, change: impl FnOnce(&mut StreamConfig)) -> String {
        let names = NatsConfig::new().names_checked().unwrap();
        let mut config = match role {
            Role::Events => NatsConfig::new().events(&names),
            Role::Cells => NatsConfig::new().cells(&names),
        };
        check(&config, role, &names).unwrap();
        change(&mut config);
        check(&config, role, &names).unwrap_err().to_string()
    }

    #[test]
    fn a_stream_that_drops_records_of_its_own_accord_is_refused_with_what_to_change() {
        use Role::{Cells, Events};
        assert!(refused(Events, |c| c.max_age = Duration::from_secs(60)).contains("max age"));
        assert!(refused(Cells, |c| c.max_age = Duration::from_secs(60)).contains("max age"));
        let old = DiscardPolicy::Old;
        assert!(refused(Events, |c| (c.max_bytes, c.discard) = (1 << 30, old)).contains("discard new"));
        assert!(refused(Events, |c| (c.max_messages, c.discard) = (9, old)).contains("discard new"));
        assert!(refused(Events, |c| c.max_messages_per_subject = 5).contains("per subject"));
        assert!(refused(Cells, |c| c.max_messages_per_subject = 5).contains("a cell is 1"));
        assert!(refused(Events, |c| c.retention = RetentionPolicy::WorkQueue).contains("retention"));
        assert!(refused(Events, |c| c.subjects = vec!["other.>".into()]).contains("subjects"));
        assert!(
            refused(Events, |c| c.duplicate_window = Duration::from_secs(9)).contains("duplicate window")
        );
        assert!(refused(Events, |c| c.max_message_size = 1000).contains("1000 bytes"));
        assert!(refused(Events, |c| c.sealed = true).contains("sealed"));
        for role in [Events, Cells] {
            assert!(refused(role, |c| c.storage = StorageType::Memory).contains("in memory"));
            assert!(refused(role, |c| c.max_consumers = 1).contains("at most 1 consumers"));
        }
    }

    #[test]
    fn a_stream_of_deeper_subjects_is_let_through_and_one_of_other_subjects_is_not() {
        let names = NatsConfig::new().names_checked().unwrap();
        let config = |subject: &str| StreamConfig {
            subjects: vec![subject.to_owned()],
            ..NatsConfig::new().events(&names)
        };
        check(&config("esker.e.>"), Role::Events, &names).unwrap();
        check(&config("esker.e.>"), Role::Cells, &names).unwrap_err();
        check(&config("esker.>"), Role::Events, &names).unwrap_err();
    }

    #[test]
    fn what_lets_us_in_is_told_to_nobody() {
        for (url, told) in [
            ("nats://user:hunter2@host:4222", "nats://***@host:4222"),
            ("tls://hunter2@host", "tls://***@host"),
            ("user:hunter2@host", "***@host"),
            ("nats://user:hunter2@x@host", "nats://***@host"),
            ("nats://host:4222", "nats://host:4222"),
        ] {
            let config = NatsConfig::new().server(url);
            assert_eq!(config.servers_told(), [told]);
            assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        }
    }

    #[test]
    fn a_limit_that_refuses_what_is_new_is_let_through() {
        let names = NatsConfig::new().names_checked().unwrap();
        let mut config = NatsConfig::new().events(&names);
        (config.max_bytes, config.max_messages) = (1 << 30, 1000);
        (config.max_messages_per_subject, config.discard_new_per_subject) = (100, true);
        check(&config, Role::Events, &names).unwrap();
    }

    #[test]
    fn all_that_is_wrong_with_a_configuration_is_told_at_once() {
        let error =
            NatsConfig::new().names("a.b", "", "c").replicas(9).names_checked().unwrap_err().to_string();
        assert!(error.contains("a.b") && error.contains("bucket") && error.contains('9'), "{error}");
    }
}

//! What streams, topics, cells and channels are called on the server.
//!
//! A subject is made of tokens that may hold few characters; streams, topics and cells have names of any bytes. Each
//! name is one token: letters, digits, `-` and `_` stand for themselves, and any other byte is `=` and two digits.
//!
//! ```text
//! esker.e.STREAM.KEY              the records of a topic             in the stream of events
//! esker.b.CHANNEL                 broadcasts                         in no stream
//! $KV.BUCKET.c.CELL               a cell                             in the bucket of cells
//! $KV.BUCKET.f.STREAM.KEY         the floor of a topic               there too
//! ```

use crate::backplane::name::{Filter, Stamp};

/// The names of one backplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// The stream of events.
    pub(super) stream: String,
    /// The bucket of cells.
    pub(super) bucket: String,
    /// What subjects begin with.
    pub(super) prefix: String,
}

impl Names {
    /// The stream that the bucket is.
    pub(super) fn cells(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// All that the stream of events takes.
    pub(super) fn events(&self) -> String {
        format!("{}.e.*.*", self.prefix)
    }

    /// What it takes where it was made to take more.
    pub(super) fn events_and_deeper(&self) -> String {
        format!("{}.e.>", self.prefix)
    }

    /// All that the bucket takes.
    pub(super) fn cell_subjects(&self) -> String {
        format!("$KV.{}.>", self.bucket)
    }

    pub(super) fn topic(&self, stream: &str, key: &[u8]) -> String {
        format!("{}.e.{}.{}", self.prefix, escaped(stream.as_bytes()), escaped(key))
    }

    pub(super) fn filter(&self, filter: Filter<'_>) -> String {
        match filter.key {
            Some(key) => self.topic(filter.stream, key),
            None => format!("{}.e.{}.*", self.prefix, escaped(filter.stream.as_bytes())),
        }
    }

    /// The key of the topic that a subject is of; `None`: it is of none.
    pub(super) fn key_of(&self, subject: &str) -> Option<Vec<u8>> {
        let rest = subject.strip_prefix(&*self.prefix)?.strip_prefix(".e.")?;
        let (stream, key) = rest.split_once('.')?;
        unescaped(stream).and_then(|_| unescaped(key))
    }

    pub(super) fn cell(&self, cell: &[u8]) -> String {
        format!("$KV.{}.c.{}", self.bucket, escaped(cell))
    }

    pub(super) fn floor(&self, stream: &str, key: &[u8]) -> String {
        format!("$KV.{}.f.{}.{}", self.bucket, escaped(stream.as_bytes()), escaped(key))
    }

    pub(super) fn channel(&self, channel: &str) -> String {
        format!("{}.b.{}", self.prefix, escaped(channel.as_bytes()))
    }
}

/// What the server knows an append or a change by. It looks at nothing else, so the subject is in it.
pub(super) fn message_id(era: u128, subject: &str, stamp: Stamp) -> String {
    format!("{era:032x}:{subject}:{stamp}")
}

fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn escaped(name: &[u8]) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name {
        if stands_for_itself(*byte) {
            token.push(char::from(*byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    token
}

/// `None`: nothing is escaped to this.
fn unescaped(token: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if stands_for_itself(*first) {
            name.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>().filter(|_| *first == b'=')?;
        let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if stands_for_itself(byte) || digits.iter().any(u8::is_ascii_lowercase) || digits.contains(&b'+') {
            return None;
        }
        name.push(byte);
        rest = behind;
    }
    (!name.is_empty()).then_some(name)
}

/// True for what may stand in the name of a stream or a bucket, or be a token of a prefix.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(stands_for_itself)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backplane::name::WriterId;

    fn names() -> Names {
        Names { stream: "S".into(), bucket: "B".into(), prefix: "esker".into() }
    }

    proptest! {
        #[test]
        fn any_name_is_one_token_and_comes_back(
            name in proptest::collection::vec(any::<u8>(), 1..300), other in proptest::collection::vec(any::<u8>(), 1..4),
        ) {
            let token = escaped(&name);
            prop_assert!(token.bytes().all(|byte| stands_for_itself(byte) || byte == b'='));
            prop_assert_eq!(unescaped(&token), Some(name.clone()));
            prop_assert_eq!(escaped(&other) == token, other == name);
            let subject = names().topic("a.b", &name);
            prop_assert_eq!(names().key_of(&subject), Some(name));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(token in "[A-Za-z0-9=._+ -]{0,12}") {
            if let Some(name) = unescaped(&token) {
                prop_assert_eq!(escaped(&name), token);
            }
        }
    }

    #[test]
    fn a_subject_of_something_else_is_of_no_topic() {
        for subject in [
            "",
            "esker.e.",
            "esker.e.s",
            "esker.e.s.",
            "esker.b.s.k",
            "eskers.e.s.k",
            "esker.e.s.=4",
            "esker.e.s.=41",
        ] {
            assert_eq!(names().key_of(subject), None, "{subject}");
        }
        assert_eq!(names().topic("s", b".*> \0"), "esker.e.s.=2E=2A=3E=20=00");
    }

    #[test]
    fn a_message_is_known_by_era_subject_and_stamp() {
        let stamp = Stamp::new(WriterId::from_raw(0xab), 7);
        assert_eq!(
            message_id(1, &names().topic("s", b"k"), stamp),
            "00000000000000000000000000000001:esker.e.s.k:00000000000000ab:7"
        );
    }
}

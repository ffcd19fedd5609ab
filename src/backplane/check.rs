//! What every backplane of this crate refuses in the same words.

use std::collections::BTreeSet;

use crate::backplane::name::Filter;
use crate::backplane::step::Step;
use crate::backplane::{
    CELLS_CHANNEL, KEY_BYTES_MAX, PAYLOAD_BYTES_PORTABLE, STEPS_MAX, STREAM_NAME_BYTES_MAX,
};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::registry::codec_of_stream;

/// Names of the library's own.
const RESERVED_PREFIX: &str = "esker.";

fn check_length(what: &str, most: usize, found: usize) -> Result<()> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("use {what}"))
        .sides(format!("1 to {most} bytes"), format!("{found} bytes")))
}

/// The name of a stream, or of a channel.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    check_length(&format!("the name of a {what}"), STREAM_NAME_BYTES_MAX, name.len())?;
    let is_own = match what {
        "stream" => codec_of_stream(name).is_some(),
        _ => name == CELLS_CHANNEL,
    };
    if name.starts_with(RESERVED_PREFIX) && !is_own {
        return Err(Error::new(ErrorKind::InvalidInput, format!("use the name of a {what}"))
            .sides(format!("one that does not start with {RESERVED_PREFIX:?}"), format!("{name:?}")));
    }
    Ok(())
}

pub(super) fn check_key(what: &str, key: &[u8]) -> Result<()> {
    check_length(&format!("the key of a {what}"), KEY_BYTES_MAX, key.len())
}

pub(super) fn check_filter(filter: Filter<'_>) -> Result<()> {
    check_name("stream", filter.stream)?;
    filter.key.map_or(Ok(()), |key| check_key("topic", key))
}

/// What is told, which every backplane can carry.
pub(super) fn check_broadcast(channel: &str, bytes: &[u8]) -> Result<()> {
    check_name("channel", channel)?;
    if bytes.len() <= PAYLOAD_BYTES_PORTABLE {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("broadcast on {channel:?}"))
        .sides(format!("at most {PAYLOAD_BYTES_PORTABLE} bytes"), format!("{} bytes", bytes.len())))
}

/// A payload, or a value, against what a backplane takes.
fn check_payload(found: usize, most: usize) -> Result<()> {
    if found <= most {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "commit a payload")
        .sides(format!("at most {most} bytes"), format!("{found} bytes")))
}

pub(super) fn check_steps(steps: &[Step<'_>], payload_bytes_max: usize) -> Result<()> {
    if steps.is_empty() || steps.len() > STEPS_MAX {
        return Err(Error::new(ErrorKind::InvalidInput, "commit")
            .sides(format!("1 to {STEPS_MAX} steps"), steps.len()));
    }
    let mut seen = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        let target = match step {
            Step::Append(append) => {
                check_filter(Filter::topic(append.stream, append.key))?;
                check_payload(append.payload.len(), payload_bytes_max)?;
                (Some(append.stream), append.key)
            }
            Step::Put(put) => {
                check_key("cell", put.cell)?;
                check_payload(put.value.map_or(0, <[u8]>::len), payload_bytes_max)?;
                (None, put.cell)
            }
        };
        if step.stamp().n == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, format!("commit step {at}"))
                .sides("a stamp with a number from 1", step.stamp()));
        }
        if !seen.insert((target, step.stamp())) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("commit step {at}"))
                .sides("a stamp that no earlier step has for the same key", step.stamp()));
        }
    }
    Ok(())
}

//! What is said when there is no connection, or none that is of use: where it was to be, how long it was waited for, and what
//! to do.

use async_nats::{ConnectError, ConnectErrorKind};

use crate::backplane::PAYLOAD_BYTES_PORTABLE;
use crate::backplane::nats::config::NatsConfig;
use crate::backplane::nats::message;
use crate::error::{Error, ErrorKind};

const START: &str =
    "start a server there (`nats-server -js`), or give another address with `NatsConfig::server`";
const WAIT: &str = "see whether a NATS server answers there, or give it more time with `NatsConfig::timeout`";
const MEND_ADDRESS: &str =
    "give `NatsConfig::server` an address such as `nats://host:4222` or `tls://host:4222`";
const MEND_NAME: &str = "mend the name of the host in `NatsConfig::server`, or have this machine find it";
const LET_IN: &str = "give user and password, or a token, in the address (`nats://user:password@host:4222`), or a client that \
                      has other credentials to `Nats::with_client`";
const MEND_TLS: &str = "see whether the server speaks TLS, and who signed for it; a client that trusts others goes to \
                        `Nats::with_client`";
const TURN_ON: &str = "see that JetStream is on there (`nats-server -js`), that this account may use it, and that a cluster has \
                       a leader; or give it more time with `NatsConfig::timeout`";

impl NatsConfig {
    /// What is attempted, and where.
    pub(super) fn connecting(&self) -> String {
        format!("connect to NATS at {}", self.servers_told().join(", "))
    }

    /// So long is waited for all servers.
    pub(super) fn patience(&self) -> std::time::Duration {
        self.timeout.saturating_mul(2)
    }
}

/// No server let us in.
pub(super) fn no_connection(config: &NatsConfig, cause: ConnectError) -> Error {
    let (kind, advice) = match cause.kind() {
        // It will never be one.
        ConnectErrorKind::ServerParse => (ErrorKind::InvalidOptions, MEND_ADDRESS),
        ConnectErrorKind::Dns => (ErrorKind::Disconnected, MEND_NAME),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            (ErrorKind::Disconnected, LET_IN)
        }
        ConnectErrorKind::Tls => (ErrorKind::Disconnected, MEND_TLS),
        ConnectErrorKind::TimedOut => (ErrorKind::Disconnected, WAIT),
        ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => (ErrorKind::Disconnected, START),
    };
    Error::new(kind, config.connecting())
        .sides(format!("a connection within {:?}", config.timeout), "none")
        .because(cause)
        .advising(advice)
}

/// No server answered.
pub(super) fn too_slow(config: &NatsConfig) -> Error {
    let expected =
        format!("a connection within {:?}, twice the time-out of {:?}", config.patience(), config.timeout);
    Error::new(ErrorKind::Disconnected, config.connecting()).sides(expected, "none").advising(WAIT)
}

/// The server takes no messages that are large enough.
pub(super) fn too_small(connecting: &str, takes: usize) -> Error {
    let most = PAYLOAD_BYTES_PORTABLE + message::HEADER_BYTES_MAX;
    Error::new(ErrorKind::InvalidOptions, connecting)
        .sides(format!("a server that takes messages of {most} bytes"), format!("max_payload {takes}"))
        .advising(format!("raise `max_payload` in the configuration of the server to {most} or more"))
}

/// It is connected, and the streams are not to be had. One that is there and is not as it has to be says what to do itself.
pub(super) fn no_streams(connecting: &str, error: Error) -> Error {
    let is_unreachable = error.kind() == ErrorKind::Disconnected;
    let error = error.part_of(connecting);
    if is_unreachable { error.advising(TURN_ON) } else { error }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_failure_says_where_it_was_how_long_was_waited_and_what_to_do() {
        let config = NatsConfig::new().server("nats://me:hunter2@there:4711").timeout(Duration::from_secs(3));
        for (kind, advice) in [
            (ConnectErrorKind::ServerParse, MEND_ADDRESS),
            (ConnectErrorKind::Dns, MEND_NAME),
            (ConnectErrorKind::AuthorizationViolation, LET_IN),
            (ConnectErrorKind::Tls, MEND_TLS),
            (ConnectErrorKind::TimedOut, WAIT),
            (ConnectErrorKind::Io, START),
        ] {
            let error = no_connection(&config, ConnectError::new(kind));
            let is_for_ever = kind == ConnectErrorKind::ServerParse;
            assert_eq!(error.kind() == ErrorKind::InvalidOptions, is_for_ever, "{error}");
            let text = error.to_string();
            for part in ["connect to NATS at nats://***@there:4711", "within 3s", &kind.to_string(), advice] {
                assert!(text.contains(part), "{text:?} does not say {part:?}");
            }
            assert!(!text.contains("same stamps") && !text.contains("hunter2"), "{text}");
        }
        let slow = too_slow(&config).to_string();
        assert!(
            slow.contains("there:4711") && slow.contains("within 6s, twice the time-out of 3s"),
            "{slow}"
        );
        let none = Error::new(ErrorKind::Disconnected, "look at the stream esker");
        let text = no_streams(&config.connecting(), none).to_string();
        assert!(
            text.starts_with("connect to NATS at nats://***@there:4711: look at the stream esker"),
            "{text}"
        );
        assert!(text.contains(TURN_ON), "{text}");
        let small = too_small(&config.connecting(), 5).to_string();
        assert!(small.contains("there:4711") && small.contains("max_payload 5"), "{small}");
    }
}

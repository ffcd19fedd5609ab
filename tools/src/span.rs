//! A length of time, as it is typed and as it is shown.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, SpanRelativeTo};

/// A length of time. Days have 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) SignedDuration);

impl Span {
    /// From one moment to another, both in nanoseconds since 1970; nothing if a clock went back.
    pub(crate) fn between(then: i64, now: i64) -> Self {
        Self(SignedDuration::from_nanos(now.saturating_sub(then).max(0)))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span = text.parse::<jiff::Span>();
        let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
        // A sign would say forward or back, which is not for a length to say.
        let duration = duration.ok().filter(|duration| !duration.is_negative());
        duration.map(Self).ok_or_else(|| format!("{text:?} is no length of time (30s, 2h, 1d)"))
    }
}

impl fmt::Display for Span {
    /// The two greatest units: nobody wants the seconds of days.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        let (great, small) = match (days, hours, minutes) {
            (0, 0, 0) if seconds == 0 && self.0.subsec_millis() > 0 => {
                return write!(f, "{}ms", self.0.subsec_millis());
            }
            (0, 0, 0) => ((seconds, "s"), (0, "")),
            (0, 0, _) => ((minutes, "m"), (seconds % 60, "s")),
            (0, _, _) => ((hours, "h"), (minutes, "m")),
            _ => ((days, "d"), (hours, "h")),
        };
        write!(f, "{}{}", great.0, great.1)?;
        if small.0 == 0 { Ok(()) } else { write!(f, " {}{}", small.0, small.1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_comes_back_from_its_text_and_has_no_sign() {
        for text in ["0s", "450ms", "30s", "1m 1s", "2h", "2h 5m", "1d", "9d 23h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90m".parse::<Span>().unwrap().to_string(), "1h 30m");
        assert_eq!("1w".parse::<Span>().unwrap().to_string(), "7d");
        for wrong in ["-2h", "2", "", "yesterday", "2h ago"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_of_an_age() {
        assert_eq!(Span::between(5, 1_000_000_005).to_string(), "1s");
        assert_eq!(Span::between(5, 4).to_string(), "0s");
    }
}

//! What failed while nobody waited, until somebody is told.

use crate::error::Error;

/// More than these are not kept: one of damage is one that a repair is needed for, and then all are seen.
const ERRORS_MAX: usize = 64;

/// Errors that nobody was told of, oldest first. Each call is told one of them.
#[derive(Debug, Default)]
pub(crate) struct Untold(Vec<Error>);

impl Untold {
    /// What is tried again fails again, if it does: of that the last is kept. Damage is told once, and so each of it.
    pub(crate) fn put(&mut self, error: Error) {
        if !error.is_corruption() {
            self.is_made_good();
        }
        // The last of them is for what may pass.
        let is_room = self.0.len() < ERRORS_MAX - usize::from(error.is_corruption());
        let is_known = || self.0.iter().any(|known| known.to_string() == error.to_string());
        if is_room && !is_known() {
            self.0.push(error);
        }
    }

    /// What failed before has been done since, but for what cannot be read.
    pub(crate) fn is_made_good(&mut self) {
        self.0.retain(Error::is_corruption);
    }

    /// The one that somebody is told now.
    pub(crate) fn take(&mut self) -> Option<Error> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn damage_is_told_whatever_else_fails_or_is_made_good() {
        let full = || Error::new(ErrorKind::NoSpace, "flush a window");
        let mut untold = Untold::default();
        untold.put(full());
        untold.put(Error::corrupt("one"));
        untold.put(full());
        untold.put(Error::corrupt("other"));
        untold.put(full());
        untold.is_made_good();
        let told: Vec<String> = std::iter::from_fn(|| untold.take()).map(|error| error.to_string()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("one") && told[1].contains("other"), "{told:?}");
        untold.put(full());
        untold.put(full());
        assert_eq!(untold.take().map(|error| error.kind()), Some(ErrorKind::NoSpace));
        assert!(untold.take().is_none(), "what is tried again is told once");
    }
}

//! Cursors by name: what the log says of each, newest revision first.

use std::collections::BTreeMap;

use crate::format::cursor::CursorState;

/// The cursors of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursors {
    by_name: BTreeMap<String, CursorState>,
}

impl Cursors {
    /// Learns what a frame of the log says of a cursor.
    pub(crate) fn learn(&mut self, cursor: CursorState) {
        match self.by_name.get(&cursor.name) {
            Some(known) if known.revision > cursor.revision => {}
            _ if cursor.retired => {
                self.by_name.remove(&cursor.name);
            }
            _ => {
                self.by_name.insert(cursor.name.clone(), cursor);
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&CursorState> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CursorState> {
        self.by_name.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::cursor::Part;

    fn cursor(revision: u64, seq: u64, retired: bool) -> CursorState {
        CursorState {
            name: "audit".into(),
            revision,
            seq,
            era: 1,
            hold: 0,
            time: 0,
            part: Part::All,
            kind: 0,
            key: Box::default(),
            retired,
        }
    }

    #[test]
    fn the_greatest_revision_is_right_in_whatever_order_it_comes_and_a_retired_name_is_free() {
        let mut cursors = Cursors::default();
        cursors.learn(cursor(2, 20, false));
        cursors.learn(cursor(1, 10, false));
        assert_eq!(cursors.get("audit").unwrap().seq, 20);
        cursors.learn(cursor(3, 5, false));
        assert_eq!(cursors.get("audit").unwrap().seq, 5, "only a later revision goes back");
        cursors.learn(cursor(4, 5, true));
        assert!(cursors.get("audit").is_none() && cursors.iter().next().is_none());
        cursors.learn(cursor(1, 1, false));
        assert_eq!(cursors.iter().count(), 1);
    }
}

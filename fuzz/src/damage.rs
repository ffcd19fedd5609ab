//! Damage to the files of a store.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;

#[derive(Debug, Arbitrary)]
pub struct Damage {
    pub file: u8,
    pub at: u16,
    pub change: Change,
}

#[derive(Debug, Arbitrary)]
pub enum Change {
    FlipBit(u8),
    Byte(u8),
    Word(u32),
    Zeros(u16),
    CopyFrom(u16, u16),
    Truncate,
    Extend(u8),
    Remove,
    Swap(u8),
}

impl Damage {
    /// The name of the file that was changed, if there is anything to change.
    pub fn apply(&self, files: &mut BTreeMap<String, Vec<u8>>) -> Option<String> {
        let nth = |n: u8| files.keys().nth(usize::from(n) % files.len().max(1)).cloned();
        let (name, other) = (nth(self.file)?, if let Change::Swap(n) = self.change { nth(n) } else { None });
        if let Change::Remove = self.change {
            files.remove(&name);
            return None;
        }
        if let Some(other) = other {
            let (a, b) = (files.get(&name)?.clone(), files.get(&other)?.clone());
            files.insert(name.clone(), b);
            files.insert(other, a);
            return Some(name);
        }
        let bytes = files.get_mut(&name)?;
        // Most of a file is zeros: damage falls where something is written, and just behind it.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at + 64).min(bytes.len()).max(1);
        let at = usize::from(self.at) % used;
        let rest = bytes.get_mut(at..)?;
        match self.change {
            Change::FlipBit(bit) => *rest.first_mut()? ^= 1 << (bit % 8),
            Change::Byte(byte) => *rest.first_mut()? = byte,
            Change::Word(word) => rest.get_mut(..4)?.copy_from_slice(&word.to_le_bytes()),
            Change::Zeros(count) => rest.iter_mut().take(count.into()).for_each(|byte| *byte = 0),
            Change::CopyFrom(from, count) => {
                let copy: Vec<u8> =
                    bytes.iter().skip(usize::from(from) % used).take(count.into()).copied().collect();
                bytes.iter_mut().skip(at).zip(copy).for_each(|(to, from)| *to = from);
            }
            Change::Truncate => bytes.truncate(at),
            Change::Extend(count) => bytes.extend(std::iter::repeat_n(self.at as u8, count.into())),
            Change::Remove | Change::Swap(_) => {}
        }
        Some(name)
    }
}

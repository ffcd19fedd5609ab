//! The lock page: who holds the store, and marks for readers in other processes.
//!
//! ```text
//! 0      header   words 0 and 1: device and inode of this very file
//! 128    holder   pid, since, host, boot id, checksum: rewritten by each opening that writes
//! 512    cells    life, visible, durable, poison, compactions (u64 each): hints, loaded as atomics
//! 4096
//! ```
//!
//! The page is made once and never truncated. A healthy log is recovered without it. What it calls durable tells damage from an
//! end where no frame does, until the machine is started anew.

use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::checksum;

pub(crate) const FILE_NAME: &str = "LOCK";
pub(crate) const PAGE_BYTES: usize = 4096;
pub(crate) const HOLDER_AT: usize = 128;
pub(crate) const CELLS_AT: usize = 512;

/// The cells, in the order of their words from [`CELLS_AT`].
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Cell {
    Life = 0,
    Visible = 1,
    Durable = 2,
    Poison = 3,
    /// Changes whenever compaction has put something in place.
    Compactions = 4,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HolderBytes {
    pid: U32,
    life: U32,
    since: I64,
    boot: [u8; 40],
    host: [u8; 64],
    held: U32,
    crc: U32,
}

const HOLDER_BYTES: usize = size_of::<HolderBytes>();
const _: () = assert!(HOLDER_AT + HOLDER_BYTES <= CELLS_AT && CELLS_AT + 5 * 8 <= PAGE_BYTES);

/// Who holds, or last held, the store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The host's name.
    pub host: String,
    /// Since when, in nanoseconds since 1970.
    pub since: i64,
    /// The kernel's boot id; a pid means nothing under another one.
    pub boot: String,
    /// The life it drew.
    pub life: u32,
    /// False once it closed the store in order.
    pub held: bool,
}

impl Holder {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = HolderBytes {
            pid: U32::new(self.pid),
            life: U32::new(self.life),
            since: I64::new(self.since),
            boot: text_field(&self.boot),
            host: text_field(&self.host),
            held: U32::new(u32::from(self.held)),
            crc: U32::ZERO,
        };
        bytes.crc = U32::new(checksum::crc(&[bytes.as_bytes().get(..HOLDER_BYTES - 4).unwrap_or_default()]));
        bytes.as_bytes().to_vec()
    }

    /// The holder named in a lock page; `None` if nobody ever was, or the page is damaged.
    pub(crate) fn read(page: &[u8]) -> Option<Self> {
        let (bytes, _) = HolderBytes::read_from_prefix(page.get(HOLDER_AT..)?).ok()?;
        let crc = checksum::crc(&[bytes.as_bytes().get(..HOLDER_BYTES - 4)?]);
        (bytes.crc.get() == crc).then(|| Self {
            pid: bytes.pid.get(),
            host: field_text(&bytes.host),
            since: bytes.since.get(),
            boot: field_text(&bytes.boot),
            life: bytes.life.get(),
            held: bytes.held.get() != 0,
        })
    }
}

/// Text cut or filled with zeros to a field's width.
fn text_field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    field
}

fn field_text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_read_back_and_a_damaged_one_is_nobody() {
        let holder = Holder {
            pid: 12,
            host: "harbour".into(),
            since: 99,
            boot: "b7f3c1e2-0000-4000-8000-000000000000".into(),
            life: 5,
            held: true,
        };
        let mut page = vec![0; PAGE_BYTES];
        assert_eq!(Holder::read(&page), None);
        page[HOLDER_AT..HOLDER_AT + HOLDER_BYTES].copy_from_slice(&holder.encode());
        assert_eq!(Holder::read(&page), Some(holder));
        page[HOLDER_AT + 1] ^= 1;
        assert_eq!(Holder::read(&page), None);
    }
}

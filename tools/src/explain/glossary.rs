//! What the words mean that the tool shows: states of segments, columns, and the fields of frames.

use super::{Words, states};

/// A word, those that mean the same, its meaning, and where to see it.
pub(super) type Entry = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);

pub(super) fn all() -> impl Iterator<Item = (&'static str, Words)> {
    entries().map(|(word, _, meaning, next)| (*word, words(meaning, next)))
}

/// The word that one stands for, however it was made plain.
pub(super) fn find(wanted: &str, plain: impl Fn(&str) -> String) -> Option<(&'static str, Words)> {
    let is_it = |word: &&str| plain(word) == wanted;
    let (word, _, meaning, next) =
        entries().find(|(word, others, ..)| is_it(word) || others.iter().any(is_it))?;
    Some((*word, words(meaning, next)))
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().chain(states::ENTRIES)
}

fn words(meaning: &'static str, next: &'static [&'static str]) -> Words {
    Words { meaning, cause: "", lost: "", next }
}

const SEGMENTS: &[&str] = &["esker segments PATH"];
const FRAMES: &[&str] = &["esker dump PATH --system --physical", "esker hex PATH SEGMENT"];

const LIVES: &[&str] = &["esker lives PATH", "esker dump PATH --system --physical"];

const ENTRIES: &[Entry] = &[
    ("active", &[], "A segment: the one in which the log ends, and the next entry is written.", SEGMENTS),
    (
        "full",
        &[],
        "A segment that the log has left, which no index covers yet, or none does any more. An index is made \
         again from the segment; it holds nothing that is not there.",
        SEGMENTS,
    ),
    (
        "sealed",
        &["seal"],
        "A segment that the log has left, which is synced and has an index. A seal is the frame at its end: it says that \
         the log goes on in a later segment, and that nothing follows in this one.",
        SEGMENTS,
    ),
    (
        "torn",
        &["torn off", "torn tail"],
        "A segment that a crash ended: the log went on in another one. What was written behind the last whole batch was \
         never durable, is passed over, and is no damage: a verification calls such a store valid.",
        &["esker segments PATH", "esker verify PATH"],
    ),
    ("spare", &[], "A segment that is made ahead: nothing is in it yet.", SEGMENTS),
    (
        "missing",
        &["gone"],
        "A segment that others follow, and that is not there: somebody removed it. What it held is lost.",
        &["esker verify PATH", "esker repair PATH --output NEW"],
    ),
    (
        "damaged",
        &[],
        "Bytes that are not what was written: a checksum, a length or a number that cannot be. Each place is told with the Seqs \
         that are lost with it; what stands behind it is still read.",
        &["esker verify PATH", "esker repair PATH --output NEW"],
    ),
    (
        "live",
        &[],
        "A store that a process has open for writing, which the lock names. Everything that only looks may run beside it.",
        &["esker info PATH"],
    ),
    (
        "unfinished",
        &[],
        "Bytes behind the last whole batch: a crash left them, or somebody is writing them. The next writer cuts them off; \
         they were never durable.",
        &["esker info PATH"],
    ),
    (
        "part",
        &["stands for"],
        "A file with what compaction kept of the segments that it stands for; it is in their place in the log. What \
         is not in it of their Seqs was dropped.",
        SEGMENTS,
    ),
    (
        "dropped",
        &[],
        "Segments of which compaction kept nothing: there is a note of their Seqs, and no file.",
        SEGMENTS,
    ),
    (
        "dead",
        &[],
        "A segment that is no part of the log: a later one passes over it, it is behind the end, or compaction replaced it \
         and something kept it from being removed.",
        SEGMENTS,
    ),
    (
        "follows",
        &[],
        "The place in the log that a segment goes on behind: SEGMENT:OFFSET. Where that is not the end of \
         the segment before, that one is torn.",
        SEGMENTS,
    ),
    (
        "era",
        &[],
        "A number that a store gets when it is made, by an import, a restore or a repair as well. A cursor of another era may \
         mean other entries by its Seq, and does not count until it is reset.",
        &["esker info PATH", "esker cursors PATH", "esker cursor reset PATH NAME --to WHERE"],
    ),
    (
        "floor",
        &["whole from"],
        "The Seq from which on everything of a store or of a kind is there. Below it compaction went, and what it kept \
         is there.",
        &["esker info PATH", "esker kinds PATH", "esker compact PATH"],
    ),
    (
        "cursor",
        &["cursors"],
        "The place of a reader in the log, under a name: the Seq of the last entry that it has seen. What it \
         has not seen is held back from compaction, as far as it may hold.",
        &["esker cursors PATH", "esker cursor reset PATH NAME --to WHERE", "esker cursor retire PATH NAME"],
    ),
    (
        "held back",
        &["held bytes", "held back by", "holds back"],
        "Log that compaction leaves alone because a cursor has not seen it: bytes from the next entry of the cursor to the end.",
        &["esker cursors PATH", "esker compact PATH"],
    ),
    (
        "may hold",
        &[],
        "How much of the log a cursor may hold back: all of it, or so many bytes. One that would hold more is lost: \
         compaction goes past it.",
        &["esker cursors PATH"],
    ),
    (
        "generation",
        &[],
        "The place of an entry in the history of its entity. It rises for ever, also over what compaction drops.",
        &["esker get PATH SEQ", "esker entities PATH"],
    ),
    (
        "life",
        &["previous life", "lives"],
        "A random number for each time that a store is opened for writing. Frames carry it, so that what an earlier opening \
         left behind is not taken for a part of the log. It is open, ended in order with `close`, or crashed: nothing says \
         that it was closed.",
        LIVES,
    ),
    (
        "durable",
        &[],
        "How far the log is known to be synced: SEGMENT:OFFSET. What is behind it may be lost with the power. A frame \
         says what was durable when it was written.",
        &["esker info PATH"],
    ),
    (
        "more",
        &[],
        "The mark of a frame whose batch goes on behind it. The last one of a batch has none.",
        FRAMES,
    ),
    (
        "ends",
        &["batch ends"],
        "The mark of a frame that compaction has copied, with which its batch ended. One there that has neither this mark \
         nor `more` may be one behind which the rest of its batch was dropped.",
        FRAMES,
    ),
    (
        "batch",
        &["batches"],
        "Entries that were appended together: all of them are there behind a crash, or none. Damage to one takes the others with \
         it for whoever repairs.",
        FRAMES,
    ),
    (
        "first",
        &[],
        "The mark of a frame before which nothing of its entity stands in the log: it is the first, or what was before it was \
         dropped or lost.",
        FRAMES,
    ),
    (
        "gap",
        &[],
        "Numbers of entries that are not there: compaction dropped them, a repair could not save them, or an import left them \
         out. In this store they are never given again.",
        &["esker get PATH SEQ"],
    ),
    (
        "keyed",
        &[],
        "The mark of the first frame of a batch that has an idempotency key: the same batch with the same key is not appended again.",
        FRAMES,
    ),
    (
        "keyed_from",
        &[],
        "In the first frame of a segment: the first segment that holds a batch whose idempotency key is \
         still remembered; zero: none.",
        FRAMES,
    ),
    (
        "settled",
        &[],
        "A source of which no deadline runs: what it asserts stays as it is until its next session.",
        &["esker sources PATH"],
    ),
    (
        "source",
        &["asserted by", "asserts", "last said by"],
        "Who says what is true of live state, by name. A row is there as long as at least one source asserts it.",
        &["esker sources PATH", "esker state PATH KIND/KEY --sources"],
    ),
    (
        "tombstone",
        &["deleted"],
        "The entry that says that an entity is not there any more. Compaction keeps it for a while, and drops it then.",
        &["esker compact PATH"],
    ),
];

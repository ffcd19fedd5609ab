//! What the words mean that stand in a cell or a field as one of few: verdicts, states, reasons, policies, and the names of lines.

use super::glossary::Entry;

const CHECK: &[&str] = &["esker check PATH"];
const CONSUMERS: &[&str] =
    &["esker consumers PATH", "esker consumer parked PATH NAME", "esker consumer dead PATH NAME"];
const CURSORS: &[&str] = &["esker cursors PATH", "esker cursor reset PATH NAME --to WHERE"];
const DIFF: &[&str] = &["esker diff A B --all"];
const DUMP: &[&str] = &["esker dump PATH", "esker get PATH SEQ"];
const EVENTS: &[&str] = &["esker events PATH KIND --synthetic", "esker sources PATH"];
const INFO: &[&str] = &["esker info PATH"];
const KEEP: &[&str] = &["esker kinds PATH", "esker keep PATH KIND all|latest|nothing|fold"];
const KINDS: &[&str] = &["esker kinds PATH"];
const LIVES: &[&str] = &["esker lives PATH"];
const REPAIR: &[&str] = &["esker repair PATH --output NEW", "esker cursor reset NEW NAME --to WHERE"];
const SOURCES: &[&str] = &["esker sources PATH"];
const TOPICS: &[&str] = &["esker topics PATH", "esker topics PATH --halted"];
const VERIFY: &[&str] = &["esker verify PATH"];

pub(super) const ENTRIES: &[Entry] = &[
    // Verdicts, and what a check says.
    ("valid", &["verdict"], "A verdict: everything that was looked at is as it was written.", VERIFY),
    ("equal", &[], "A verdict: two stores say the same, and all of both could be read.", DIFF),
    (
        "different",
        &["differing", "only in a", "only in b"],
        "A verdict: two stores do not say the same.",
        DIFF,
    ),
    (
        "uncompared",
        &["not compared"],
        "Entries of one of two stores of which the other has lost its own: whether they are the same nobody knows.",
        DIFF,
    ),
    ("ok", &["health"], "Of a store's health: nothing is wrong with it that a check looks for.", CHECK),
    (
        "warning",
        &["gravity"],
        "Of a store's health: something that somebody should look at. Nothing is lost by it yet, or it is for the owner's options to say how to go on.",
        CHECK,
    ),
    (
        "critical",
        &[],
        "Of a store's health: damage, no space, or a cursor, a fold or a consumer that does not go on before somebody does something.",
        CHECK,
    ),
    (
        "quick",
        &["check"],
        "A check of headers and derived files, and of the frames behind the last index; it reads no others.",
        VERIFY,
    ),
    (
        "tail",
        &[],
        "Of a trouble: bytes behind the end of the log that a crash left, in a store that nobody writes.",
        CHECK,
    ),
    ("space", &[], "Of a trouble: little is free on the file system of the store.", &["esker compact PATH"]),
    // What info and verify count.
    ("path", &[], "Where the store is.", INFO),
    ("store", &["store id"], "The number that a store gets when it is made; a copy has the same.", INFO),
    (
        "backplane",
        &[],
        "What topics, folds, consumers and cells stand on: events and cells behind one interface.",
        &["esker topics PATH", "esker consumers PATH", "esker cells PATH"],
    ),
    (
        "format",
        &["format version"],
        "The version of what is written on disk.",
        &["esker info PATH", "esker upgrade PATH --output NEW"],
    ),
    ("writer", &[], "The process that has the store open for writing, or had it last.", LIVES),
    ("end", &[], "Where the log ends: SEGMENT:OFFSET.", INFO),
    (
        "in order",
        &["closed in order", "last close"],
        "The last life ended with `close`: no recovery is needed.",
        LIVES,
    ),
    (
        "seq",
        &["seqs"],
        "The place of an entry in the log, counted from 1. It is never given again, but for those that a crash took of a log that was not synced.",
        DUMP,
    ),
    (
        "entry",
        &["entries"],
        "What was appended at a time: a fact, a row or an operation, about one entity.",
        DUMP,
    ),
    ("entity", &["entities"], "What a history belongs to: a kind and a key.", &["esker entities PATH"]),
    (
        "kind",
        &["kinds"],
        "The type of entities, by name. It says who may write them, how payloads are encoded, and what compaction keeps.",
        KINDS,
    ),
    ("sources", &[], "As an operation: a row of which only who asserts it has changed.", SOURCES),
    ("segments", &["segment"], "The files of the log.", &["esker segments PATH"]),
    (
        "frames",
        &["frame"],
        "What the log is made of: one for each entry, and those that the log writes about itself. A backup whose frames were verified was read through once.",
        VERIFY,
    ),
    ("bytes", &["held"], "Of a cursor: it holds back more of the log than it may.", CURSORS),
    ("prefix", &["region"], "A cursor whose region is the entities of a kind whose keys begin so.", CURSORS),
    // Policies.
    ("all", &["keep"], "Of what compaction keeps: every entry. Of a cursor: its region is everything.", KEEP),
    ("latest", &[], "Of what compaction keeps: the newest entry of each entity.", KEEP),
    ("nothing", &[], "Of what compaction keeps: nothing of a kind.", KEEP),
    (
        "fold",
        &["folds"],
        "A value that is derived from the records of a topic. Of what compaction keeps: what folds still need.",
        TOPICS,
    ),
    // Lives, sessions, epochs.
    ("open", &[], "A life, a session or a consumer that somebody has, or that ended without a word.", LIVES),
    ("crashed", &[], "A life that ended without a word: a crash, a kill, or the power.", LIVES),
    (
        "unknown",
        &[],
        "How a life ended cannot be told any more. Of a store's health: nobody could look.",
        LIVES,
    ),
    ("begun", &["session"], "A session of a source that goes on, as far as the log tells.", SOURCES),
    (
        "deadline",
        &[],
        "How long a source may be silent; a session that ended by it was silent for longer.",
        SOURCES,
    ),
    (
        "synthetic",
        &[],
        "An operation that no source said: the end of an epoch or of a session made it.",
        EVENTS,
    ),
    (
        "in-epoch",
        &["in epoch"],
        "An operation that a source said while it stated all of a kind anew.",
        EVENTS,
    ),
    // Operations.
    ("fact", &["facts"], "An entry that is true for good, of a kind that any door may append to.", DUMP),
    ("row", &["rows", "state"], "An entry with the whole value of an entity of live state.", DUMP),
    ("created", &[], "A row of an entity that was not there before.", DUMP),
    ("updated", &["changed"], "A row that is another than before.", DUMP),
    (
        "retracted",
        &["retract"],
        "Nobody asserts the entity any more, or one source takes back what it said.",
        EVENTS,
    ),
    ("assert", &[], "An operation that states the whole of an entity.", EVENTS),
    ("patch", &[], "An operation that states some fields of an entity.", EVENTS),
    (
        "event",
        &["events", "operations"],
        "What a source said of live state, as the log of a kind with events has it.",
        EVENTS,
    ),
    ("system", &[], "A frame that the log writes about itself.", &["esker dump PATH --op system"]),
    // Consumers and folds.
    (
        "topic",
        &["topics", "stream"],
        "The records of one kind and one key, in the order in which they were written, each with an offset. Folds make values of \
         them, and consumers are given them.",
        TOPICS,
    ),
    (
        "image",
        &["images", "image age", "image bytes"],
        "The saved value of a fold with the offset up to which it has every record of its topic: the next process begins with it \
         and not with the oldest record. Where it is damaged or old only time is lost, for as long as the topic keeps its records.",
        TOPICS,
    ),
    (
        "cell",
        &["cells", "revision"],
        "A value under a key on the backplane, which is put in the place of the one before. Its revision rises with each change, and \
         who changes it says from which one.",
        &["esker cells PATH"],
    ),
    (
        "consumer",
        &["consumers"],
        "Who is given the records of a topic one after the other, with a durable place of its own.",
        CONSUMERS,
    ),
    (
        "lag",
        &["behind", "max lag"],
        "How many entries or records are not done yet. Of a cursor after a repair: it is where it was before. Of a fold: its image has not all records.",
        CONSUMERS,
    ),
    ("age", &["next waits"], "How long the next entry or record has waited.", CONSUMERS),
    (
        "suspended",
        &["resume"],
        "A consumer in whose handler processes have ended again and again. It goes on when somebody says `resume`, or the handler answers in another process.",
        &["esker consumer resume PATH NAME"],
    ),
    (
        "stuck",
        &["retrying", "retried", "attempts"],
        "A consumer whose handler has failed again and again on one record, that does not go on, or that has parked records. \
         What is behind that record waits.",
        CONSUMERS,
    ),
    (
        "parked",
        &["retry", "discard"],
        "Records that a handler could not do, set aside with all that came behind them for the same entity, until somebody says \
         `retry` or `discard`.",
        &[
            "esker consumer parked PATH NAME",
            "esker consumer retry PATH NAME --key KEY",
            "esker consumer discard PATH NAME --key KEY",
        ],
    ),
    (
        "given up",
        &["poisoned records", "dead letter"],
        "Records that failed as often as they may: set aside for good, or parked, until somebody retries or discards them; those that were done since count too.",
        &["esker consumer dead PATH NAME"],
    ),
    (
        "retire",
        &["retired"],
        "A cursor or a consumer is forgotten, and holds nothing back any more.",
        &["esker cursor retire PATH NAME", "esker consumer retire PATH NAME"],
    ),
    ("ended", &[], "A consumer that was stopped in order.", CONSUMERS),
    ("not begun", &[], "A consumer that is registered and has done nothing yet.", CONSUMERS),
    (
        "other era",
        &["other_era"],
        "A place or an image from before a repair, a restore or an import: what it names may not be the same record. A consumer \
         halts there unless its options say how to go on.",
        CONSUMERS,
    ),
    (
        "diverged",
        &[],
        "A fold that made something else of the records than an image of it has. The topic keeps all records.",
        TOPICS,
    ),
    (
        "unusable",
        &[],
        "A fold of whose images none can be used: they are damaged or of a later build.",
        TOPICS,
    ),
    (
        "no image",
        &["no_image"],
        "A fold of which nothing is saved: it begins with the oldest record.",
        TOPICS,
    ),
    ("whole", &[], "A fold whose newest image has every record of its topic.", TOPICS),
    // What a repair says.
    (
        "ahead",
        &["fate"],
        "A cursor after a repair that had been put back: its reader will not see what it was to see again.",
        REPAIR,
    ),
    (
        "back",
        &[],
        "A cursor after a repair that had been retired: it is there again, and holds back what nobody reads.",
        REPAIR,
    ),
    // Why there is nothing.
    (
        "lost or compacted",
        &["left out", "not written"],
        "Why an entry is not there: it was lost to damage or dropped by compaction, an import or a repair left it out, or its number was \
         not given yet.",
        &["esker get PATH SEQ", "esker verify PATH"],
    ),
    // What explain is about.
    ("error", &[], "What a command could not do, in words that say what to do.", &["esker explain"]),
    ("finding", &[], "Something that is wrong with a store, or worth knowing.", VERIFY),
    ("word", &[], "A word that the tool prints.", &["esker explain"]),
    ("other", &[], "What a later build has written: this one has no name for it.", INFO),
];

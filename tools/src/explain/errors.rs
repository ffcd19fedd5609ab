//! What each kind of error means.

use esker::ErrorKind;

use super::Words;

/// What is known of a kind of error; `None` of one that a later library has.
pub(super) fn of(kind: ErrorKind) -> Option<Words> {
    place(kind)
        .or_else(|| admission(kind))
        .or_else(|| failing(kind))
        .or_else(|| writing(kind))
        .or_else(|| state(kind))
        .or_else(|| reading(kind))
}

/// Errors of who looks for a store where there is none, or makes one.
fn place(kind: ErrorKind) -> Option<Words> {
    Some(match kind {
        ErrorKind::NotADirectory => Words {
            meaning: "A store is a directory, and at this path is something else.",
            cause: "The path of a file inside the store was given, or a file has taken the place of the directory.",
            lost: "Nothing.",
            next: &["give the directory itself; `esker info PATH` shows whether it is a store"],
        },
        ErrorKind::NotFound => Words {
            meaning: "There is no store at the path, and the call was not to make one.",
            cause: "A path with a typing error or relative to another directory, a volume that is not mounted, or an application \
                    that has not made its store yet.",
            lost: "Nothing.",
            next: &[
                "look whether the volume is mounted and the path is right",
                "an application makes a store by `Store::open`",
            ],
        },
        ErrorKind::AlreadyExists => Words {
            meaning: "There is something where a new store was to be made.",
            cause: "`repair`, `restore`, `import`, `backup` and `upgrade` only write to a place that is empty, so that nothing is \
                    overwritten.",
            lost: "Nothing: the place was not touched.",
            next: &["give a path that is not there yet, or an empty directory"],
        },
        ErrorKind::NotAStore => Words {
            meaning: "The directory is there, and it is not a store: it has no MANIFEST, or files that are no store's.",
            cause: "The directory above or below the store was given; or the MANIFEST was deleted.",
            lost: "Nothing by this call, which changed nothing. Where the MANIFEST was deleted, the entries are in the segments still.",
            next: &[
                "look for the directory with MANIFEST and *.seg in it",
                "esker repair PATH --output NEW   makes a store of segments whose MANIFEST is gone",
            ],
        },
        _ => return None,
    })
}

/// Errors of who may not open one that is there, or not so.
fn admission(kind: ErrorKind) -> Option<Words> {
    Some(match kind {
        ErrorKind::FormatTooNew => Words {
            meaning: "A newer esker wrote the store, in a format that this one does not know.",
            cause: "The application was brought up to date, and this tool or another application was not; or an application was put \
                    back to an older version.",
            lost: "Nothing was changed.",
            next: &["use an esker of the version of the application that writes the store"],
        },
        ErrorKind::Locked => Words {
            meaning: "Somebody has the store open for writing, and there is one writer at a time.",
            cause: "The application runs; or an earlier one has not ended; or this process has a handle already.",
            lost: "Nothing.",
            next: &[
                "esker info PATH   names the process: `writer`",
                "looking needs no lock: info, dump, verify, backup and the plans of compact and cursor work beside a writer",
                "for what changes a store, stop the application first, or let it do that itself",
            ],
        },
        ErrorKind::PermissionDenied => Words {
            meaning: "The operating system does not let this user read or write the store.",
            cause: "The store belongs to another user, or lies on a file system that is mounted for reading only.",
            lost: "Nothing.",
            next: &[
                "run the command as the user that the application runs as",
                "ls -ld PATH; findmnt -T PATH",
            ],
        },
        ErrorKind::UnsupportedFileSystem => Words {
            meaning: "The file system does not lock and map files coherently, so that a writer there would not be safe.",
            cause: "The store is on a network file system (NFS, SMB, FUSE to a remote).",
            lost: "Nothing.",
            next: &["put the store on a local disk, and back it up to the network: esker backup PATH DIR"],
        },
        ErrorKind::ReadOnly => Words {
            meaning: "What only reads a store was asked to change it.",
            cause: "A backplane over a Reader (`ReadOnly`) was given an append or a change of a cell.",
            lost: "Nothing: the change was not made.",
            next: &["open the store for writing (`Store::open`), when nobody else has it open"],
        },
        ErrorKind::IsBackup => Words {
            meaning: "The files are a backup, which is read and never written.",
            cause: "An application, or a command that changes a store, was given what `esker backup` made.",
            lost: "Nothing.",
            next: &[
                "esker restore BACKUP NEW   makes a store of it",
                "all commands that look work on the backup itself",
            ],
        },
        ErrorKind::InvalidOptions => Words {
            meaning: "The options contradict each other or go over a limit. The text lists all problems.",
            cause: "A setting of the application, or arguments of a command, that no store can have.",
            lost: "Nothing: the store was not opened.",
            next: &["change the options that the text names"],
        },
        ErrorKind::Forked => Words {
            meaning: "A handle was used in a process that forked from the one that opened the store.",
            cause: "A daemon or a pool of workers that forks after it has opened the store.",
            lost: "Nothing.",
            next: &["open the store behind the fork, or use a Reader in the child"],
        },
        _ => return None,
    })
}

/// Errors of the machine, and of bytes on disk.
fn failing(kind: ErrorKind) -> Option<Words> {
    Some(match kind {
        ErrorKind::Io => Words {
            meaning: "The operating system reported a failure; the text has its words.",
            cause: "A disk that fails, a volume that went away, too many open files, or an output that cannot be written.",
            lost: "What was acknowledged as durable before it is intact.",
            next: &[
                "dmesg or the journal of the system has what the disk said",
                "esker verify PATH   tells what can be read: what cannot is `unread`, and the verdict `incomplete`",
                "esker repair PATH --output NEW   on another disk, if this one is dying",
            ],
        },
        ErrorKind::NoSpace => Words {
            meaning: "The disk, or the quota of the user, is full.",
            cause: "The log has grown, a cursor holds compaction back, or something else fills the disk.",
            lost: "Nothing: the store is intact and readable, and goes on when there is space. What was refused was not written.",
            next: &[
                "esker cursors PATH   names who holds space back",
                "esker compact PATH   says what could be freed; --execute frees it",
                "then repeat the call",
            ],
        },
        ErrorKind::Corrupt => Words {
            meaning: "Bytes on disk contradict themselves or each other: a checksum does not match, or a file is not where it has to be.",
            cause: "Bits that a disk or memory turned over, a file that something else wrote to, truncated or deleted, a copy of a live \
                    store by other means than `esker backup`.",
            lost: "What lies at the bad place, at least a frame and at most the batch around it; `esker verify` says which Seqs. Nothing \
                   was truncated, deleted or renumbered.",
            next: &[
                "esker verify PATH   names each place, what is lost there, and what follows",
                "esker repair PATH --output NEW   saves all that is good into a new store",
                "until then a Reader, and this tool, show what is good",
            ],
        },
        ErrorKind::Poisoned => Words {
            meaning: "A sync failed in this life of the journal, and it takes no more writes.",
            cause: "The disk refused to make durable what was written. What the page cache has since may not be what the disk has, so that \
                    going on could acknowledge what is not there.",
            lost: "What was acknowledged as durable is there. Of what was not yet, the outcome is unknown.",
            next: &[
                "look at the disk (dmesg), then start the application again",
                "the application repeats what was not acknowledged, with its idempotency keys",
                "esker verify PATH",
            ],
        },
        ErrorKind::Rewound => Words {
            meaning: "A reader stood behind the point from which the writer went on after a crash.",
            cause: "The machine, or the writer, went down; what was visible and not yet durable was taken back, and its numbers are given again.",
            lost: "Entries that were never acknowledged as durable, though a reader may have seen them.",
            next: &["open the reader again; the text says from where on the log is another"],
        },
        ErrorKind::Closed => Words {
            meaning: "The journal was closed, and the handle is used still.",
            cause: "A thread of the application outlives `close`.",
            lost: "Nothing that was acknowledged.",
            next: &["end what writes before the store is closed"],
        },
        ErrorKind::Timeout => Words {
            meaning: "What was waited for did not come within the time that the caller gave.",
            cause: "A writer, a fold or a backplane is slower than that, or has stopped.",
            lost: "Nothing: what goes on behind the wait goes on.",
            next: &["wait longer, or look who is behind: esker cursors PATH"],
        },
        ErrorKind::LimitReached => Words {
            meaning: "A counter or a table of the store is at its limit; the text says which.",
            cause: "More kinds, sources, cursors or readers than there are numbers for, most often made by a loop with a new name each time.",
            lost: "Nothing: what would have gone over the limit was refused.",
            next: &[
                "retire what is not used any more, as `esker cursor retire PATH NAME`",
                "esker info PATH   counts them",
            ],
        },
        _ => return None,
    })
}

/// Errors of who appends.
fn writing(kind: ErrorKind) -> Option<Words> {
    Some(match kind {
        ErrorKind::InvalidInput => Words {
            meaning: "An argument is empty, longer than its limit, or asks for what cannot be; the text has the limit and the length.",
            cause: "A key, metadata, payload, name or batch that the store cannot take.",
            lost: "Nothing: the call was refused whole.",
            next: &["change what the text names"],
        },
        ErrorKind::BatchTooLarge => Words {
            meaning: "An atomic batch is larger than a quarter of a segment.",
            cause: "Too many records, or too large ones, in one batch.",
            lost: "Nothing: no record of the batch was written.",
            next: &["make smaller batches, or larger segments (`Options::segment_bytes`)"],
        },
        ErrorKind::Conflict => Words {
            meaning: "An expectation was not met: the entity is at another generation than the writer believed.",
            cause: "Somebody else wrote it in between. That is what expectations are for.",
            lost: "Nothing: the batch was refused whole.",
            next: &[
                "read the entity again, decide again, and append with the new expectation",
                "esker dump PATH --entity KIND/KEY   shows who came in between",
            ],
        },
        ErrorKind::KeyReused => Words {
            meaning: "An idempotency key came with other content than the first time.",
            cause: "A key that is not made of what it is for, or an application that changes a batch before it repeats it.",
            lost: "Nothing: the first batch stands, and the second was refused.",
            next: &["use a fresh key for other content"],
        },
        ErrorKind::UnknownKind => Words {
            meaning: "The kind is not registered in this store.",
            cause: "Another store than the one that was meant, a name with a typing error, or a number from another store.",
            lost: "Nothing.",
            next: &["esker kinds PATH   lists those that are there"],
        },
        ErrorKind::KindMismatch => Words {
            meaning: "A kind of this name is registered with another codec, another owner, or a newer version.",
            cause: "Two types of the application under one name, or an older application on a store that a newer one has written.",
            lost: "Nothing.",
            next: &[
                "esker kinds PATH   shows what is registered",
                "use another name, or the newer application",
            ],
        },
        ErrorKind::Codec => Words {
            meaning: "A value could not be encoded, or a payload could not be decoded by the codec of its kind.",
            cause: "Bytes of another encoding under the name of this kind, a type that has changed since, or a private codec that this tool \
                    does not know.",
            lost: "Nothing: the bytes are in the log as they were written.",
            next: &[
                "esker verify PATH --decode   names every payload that does not decode, and why",
                "esker get PATH SEQ --payload hex   shows the bytes",
                "an application with a private codec links a tool of its own: `esker_tools::Tool`",
            ],
        },
        ErrorKind::Schema => Words {
            meaning: "A type cannot be the row of a kind, or not of one with these fields. Both lists are in the text.",
            cause: "A field was renamed or taken away, where a store keeps the fields that it knows.",
            lost: "Nothing.",
            next: &[
                "esker kinds PATH   lists the fields",
                "add fields with a default, and leave the others; or take another kind",
            ],
        },
        ErrorKind::TypeMismatch => Words {
            meaning: "A field has a value that the type of the row does not take; the text names the field.",
            cause: "The type of a field was changed, where rows of before are in the store.",
            lost: "Nothing: the bytes are there.",
            next: &[
                "esker verify PATH --decode",
                "read with a type that takes both, as an enum that serde tells apart",
            ],
        },
        _ => return None,
    })
}

/// Errors of who says what is so.
fn state(kind: ErrorKind) -> Option<Words> {
    Some(match kind {
        ErrorKind::OwnedByState => Words {
            meaning: "The kind holds live state, which only sources write.",
            cause: "A fact was appended to a kind of rows.",
            lost: "Nothing: the append was refused.",
            next: &["write it through `Store::source`, or append to another kind"],
        },
        ErrorKind::SourceClaimed => Words {
            meaning: "Somebody has a session of this source already.",
            cause: "Two parts of the application claim one name, or an old session was not dropped.",
            lost: "Nothing.",
            next: &["clone the session that has it, or drop all its clones first"],
        },
        ErrorKind::SourceEnded => Words {
            meaning: "The source's session has ended: it was closed, or was silent for longer than its deadline.",
            cause: "A source that did not say anything, nor that it is alive, in time; what it asserted was taken back.",
            lost: "What it had asserted and nobody else does is not there any more, until it says so again.",
            next: &[
                "claim the source again, and say again what is true",
                "esker info PATH   lists sources and their deadlines",
            ],
        },
        ErrorKind::EpochOpen => Words {
            meaning: "The source has an epoch of that kind open, and can have one.",
            cause: "An epoch was begun, and neither committed nor dropped.",
            lost: "Nothing.",
            next: &["commit the other epoch, or drop it"],
        },
        ErrorKind::Reaction => Words {
            meaning: "A reaction panicked.",
            cause: "The code of the application that reacts to an entry; the text has its words and the entry.",
            lost: "Nothing: its cursor stands before that entry, which comes again.",
            next: &["esker get PATH SEQ   shows the entry", "mend the reaction, and start it again"],
        },
        ErrorKind::ReactionLoop => Words {
            meaning: "What reactors append was reacted to so often that nothing else will come of it.",
            cause: "A reactor that reacts to its own entries, or two that react to each other's.",
            lost: "Nothing: the reactor stands at the entry that the text names.",
            next: &[
                "esker get PATH SEQ   shows `cause` and `depth`",
                "leave what reactors append out of the reactor's region",
            ],
        },
        ErrorKind::WouldDeadlock => Words {
            meaning: "A reaction asked for something that waits for the reaction's own end.",
            cause: "A call that stops or joins a reactor, or closes the store, from inside the reaction.",
            lost: "Nothing.",
            next: &["tell another thread, or stop the reactor by its handle"],
        },
        ErrorKind::Target => Words {
            meaning: "The target of a mirror answered an error, or panicked.",
            cause: "The database or service that is fed from the store; the text has its words.",
            lost: "Nothing: the store is as it was, and the mirror's cursor stands before what was refused.",
            next: &["look at the target", "esker cursors PATH   says how far the mirror is behind"],
        },
        ErrorKind::Halted => Words {
            meaning: "A fold over a topic cannot go on, or not without folding what is not so.",
            cause: "A record that the fold refuses, records that were dropped before it had them, or an image of another fold; the text says \
                    which.",
            lost: "Nothing of the log. What the fold answers is as of where it stands.",
            next: &["mend the fold, or begin it anew from the oldest record that is left"],
        },
        ErrorKind::Disconnected => Words {
            meaning: "The backplane could not be reached, or did not answer in time.",
            cause: "The network, or the server behind it.",
            lost: "Unknown until it is asked again: what was sent may have been done.",
            next: &["repeat the call with the same stamps, which finds that out"],
        },
        _ => return None,
    })
}

/// Errors of who reads on.
fn reading(kind: ErrorKind) -> Option<Words> {
    Some(match kind {
        ErrorKind::Compacted => Words {
            meaning: "Compaction has dropped what was asked for.",
            cause: "The entry lies below the floor, where only what a kind keeps is left.",
            lost: "What compaction was told to drop; of a kind that keeps the newest, that one is there.",
            next: &[
                "read from the floor on, which the text has",
                "esker kinds PATH   says what each keeps, and from where on it is whole",
            ],
        },
        ErrorKind::Lost => Words {
            meaning: "What a reader has to read next was dropped.",
            cause: "A cursor that may hold back only so much (`Hold::UpTo`) fell further behind, and compaction went past it; or records of a \
                    topic were dropped before they were folded.",
            lost: "For this reader, the entries between its place and the floor.",
            next: &[
                "esker cursors PATH   names cursors that are lost",
                "esker cursor reset PATH NAME --to oldest --execute   goes on with what is left",
                "a cursor that may hold back more (`Hold::Forever`) is never lost, and can fill the disk",
            ],
        },
        ErrorKind::CursorInUse => Words {
            meaning: "A watcher, a reactor or a consumer of this process has the place under that name in hand: two of one name would \
                      each see a part of the entries.",
            cause: "Two of one name in one process, or one that was begun again before the one before it was dropped or closed.",
            lost: "Nothing.",
            next: &[
                "drop the watcher that has it, close the consumer, or stop and join the reactor; or give this one a name of its own",
                "which names there are: esker cursors PATH, and esker consumers PATH",
            ],
        },
        ErrorKind::CursorMismatch => Words {
            meaning: "The cursor was made for another region than the one that is asked for. Both are in the text.",
            cause: "The region of a reader was changed, where its name was not.",
            lost: "Nothing.",
            next: &[
                "take a new name for the new region, and retire the old one: esker cursor retire PATH NAME",
            ],
        },
        ErrorKind::UnknownCursor => Words {
            meaning: "There is no cursor of that name.",
            cause: "A typing error, or a cursor that was retired or never made.",
            lost: "Nothing.",
            next: &["esker cursors PATH   lists those that are there"],
        },
        ErrorKind::EraChanged => Words {
            meaning: "The cursor was written before the store was repaired or restored: what its Seq names may be another entry now.",
            cause: "`esker repair` or `esker restore`, which begin a new era.",
            lost: "Nothing by this. What the repair lost it has said.",
            next: &[
                "esker cursor reset PATH NAME --to +0 --execute   keeps its place, if all that it has read is there",
                "esker cursor reset PATH NAME --to oldest --execute   reads everything again",
            ],
        },
        ErrorKind::Lagged => Words {
            meaning: "A subscriber fell further behind than it was allowed to.",
            cause: "It takes longer for an entry than the writer does, or it stood still.",
            lost: "Nothing of the log: the subscriber only did not see it.",
            next: &[
                "subscribe again from the place in the text",
                "give it more capacity, or another answer to lag",
            ],
        },
        _ => return None,
    })
}

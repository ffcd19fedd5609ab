//! What each kind of finding means: by what it is, and by which file it is about.

use esker::Severity;

use super::Words;

/// A kind of finding, for which there is a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    DamagedSegment,
    DamagedPart,
    DamagedManifest,
    MisplacedFile,
    DerivedIndex,
    DerivedEntities,
    LockPage,
    Unread,
    Note,
    Undecodable,
    Incomplete,
}

impl Code {
    pub(super) const ALL: &'static [Self] = &[
        Self::DamagedSegment,
        Self::DamagedPart,
        Self::DamagedManifest,
        Self::MisplacedFile,
        Self::DerivedIndex,
        Self::DerivedEntities,
        Self::LockPage,
        Self::Unread,
        Self::Note,
        Self::Undecodable,
        Self::Incomplete,
    ];

    /// The page about a finding of this severity in this file.
    pub(crate) fn of(severity: Severity, file: &str) -> Self {
        match severity {
            Severity::Unread => Self::Unread,
            Severity::Note => Self::Note,
            Severity::Derived if file.ends_with(".idx") => Self::DerivedIndex,
            Severity::Derived if file == "LOCK" => Self::LockPage,
            Severity::Derived => Self::DerivedEntities,
            _ if file.ends_with(".seg") => Self::DamagedSegment,
            _ if file.ends_with(".snap") => Self::DamagedPart,
            _ if file == "MANIFEST" => Self::DamagedManifest,
            _ => Self::MisplacedFile,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DamagedSegment => "damaged-segment",
            Self::DamagedPart => "damaged-part",
            Self::DamagedManifest => "damaged-manifest",
            Self::MisplacedFile => "misplaced-file",
            Self::DerivedIndex => "derived-index",
            Self::DerivedEntities => "derived-entities",
            Self::LockPage => "lock-page",
            Self::Unread => "unread",
            Self::Note => "note",
            Self::Undecodable => "undecodable",
            Self::Incomplete => "incomplete",
        }
    }

    /// The word before a finding and the verdict behind it, as `verify` prints them, where they are no codes themselves.
    pub(super) fn said_as(self) -> &'static [&'static str] {
        match self {
            Self::DamagedSegment | Self::DamagedPart | Self::DamagedManifest | Self::MisplacedFile => {
                &["damage", "invalid"]
            }
            Self::DerivedIndex | Self::DerivedEntities | Self::LockPage => &["derived", "invalid"],
            Self::Undecodable => &["payload", "invalid"],
            Self::Unread | Self::Note | Self::Incomplete => &[],
        }
    }

    pub(super) fn words(self) -> Words {
        match self {
            Self::DamagedSegment | Self::DamagedPart | Self::DamagedManifest | Self::MisplacedFile => {
                self.damage()
            }
            _ => self.other(),
        }
    }

    fn damage(self) -> Words {
        match self {
            Self::DamagedPart => Words {
                meaning: "A part, which compaction wrote in the place of older segments, does not validate, is cut off, or is gone.",
                cause: "A disk that turned bits over, or something else that wrote to the file or removed it.",
                lost: "The entries of the bad frame or, of a file that is gone, of the whole part. The segments that it stands for are not \
                       there any more.",
                next: REPAIR,
            },
            Self::DamagedManifest => Words {
                meaning: "The MANIFEST, which names the store, its parts and its cursors, does not validate.",
                cause: "A disk that turned bits over, or something else that wrote to the file.",
                lost: "No entry. The store does not open before it is repaired; the places of cursors and what compaction had decided are \
                       found again as far as the log tells.",
                next: REPAIR,
            },
            Self::MisplacedFile => Words {
                meaning: "Under the name of a store's file is a link, pipe, device or directory; or the damage is of no file in particular.",
                cause: "Somebody moved a segment to another disk and linked it, or made something of that name.",
                lost: "What the file would hold, as long as it is not there.",
                next: &[
                    "put the file itself in its place; a whole store may be moved, and a link to its directory is fine",
                    "esker repair PATH --output NEW   if the file is gone",
                ],
            },
            _ => Words {
                meaning: "In a segment of the log is a place that does not validate: a header, a frame's header, its content, or the chain from one \
                          frame to the next. Or the segment is cut off or gone.",
                cause: "A disk that turned bits over, something else that wrote to the file, truncated or removed it, or a copy of a live store by \
                        other means than `esker backup`.",
                lost: "The entries whose Seqs the finding names, with the batch around them. What follows from the next good frame on is there.",
                next: REPAIR,
            },
        }
    }

    fn other(self) -> Words {
        match self {
            Self::DerivedIndex => Words {
                meaning: "The index of a segment or part is bad, or does not say what its segment says.",
                cause: "A disk that turned bits over, or a file of another moment that was copied here.",
                lost: "Nothing: an index is derived from the log.",
                next: DERIVED,
            },
            Self::DerivedEntities => Words {
                meaning: "A derived file, most often the directory of entities, is bad or does not say what the log says.",
                cause: "A disk that turned bits over, or a file of another moment that was copied here.",
                lost: "Nothing: it is derived from the log.",
                next: DERIVED,
            },
            Self::LockPage => Words {
                meaning: "The page of the LOCK file, which tells readers how far a writer is, does not validate.",
                cause: "A crash while it was written, a copied directory, or a disk that turned bits over.",
                lost: "Nothing: it holds hints.",
                next: DERIVED,
            },
            Self::Unread => Words {
                meaning: "Something could not be read, so that nothing is known about it.",
                cause: "The device failed, or this user may not read the file.",
                lost: "Unknown until it can be read.",
                next: &[
                    "make everything readable: the right user, the right mount, another cable or disk",
                    "esker verify PATH   again: a verdict of `incomplete` is never a pass",
                ],
            },
            Self::Note => Words {
                meaning: "Worth knowing, and nothing wrong.",
                cause: "A crash leaves a torn end, dead segments or *.tmp files, which the next opening for writing clears up; other files are \
                        no part of the store.",
                lost: "Nothing that was acknowledged as durable.",
                next: &["nothing has to be done"],
            },
            Self::Incomplete => Words {
                meaning: "A verdict: nothing wrong was found, and not everything could be read. Never a pass.",
                cause: "Files that could not be read, or a live writer that compacts faster than they are looked at.",
                lost: "Unknown until all can be read.",
                next: &["see `esker explain unread`, then esker verify PATH again"],
            },
            _ => Words {
                meaning: "A payload is whole, as its checksum says, and does not decode by the codec and the fields of its kind.",
                cause: "The application wrote other bytes than it registered the kind for: a codec or type that was changed under the same name. \
                        Or the codec is private, and this tool does not know it.",
                lost: "Nothing: the bytes are in the log as they were written.",
                next: &[
                    "esker get PATH SEQ --payload hex   shows the bytes",
                    "esker kinds PATH   shows the codec and the fields",
                    "an application with a private codec links a tool of its own: `esker_tools::Tool`",
                ],
            },
        }
    }
}

const REPAIR: &[&str] = &[
    "esker verify PATH   names each place and what is lost there",
    "look whether a backup has it: esker diff PATH BACKUP",
    "esker repair PATH --output NEW   saves all that is good into a new store; the damaged one is not touched",
];

const DERIVED: &[&str] =
    &["remove the file while nobody has the store open: it is built again", "esker repair is not needed"];

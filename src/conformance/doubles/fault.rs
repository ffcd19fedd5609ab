//! What doubles do, and which statement has to find it.

/// What a double does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Delivers records again.
    Redeliver,
    /// Ends feeds with `Disconnected`.
    Disconnect,
    /// Answers `Disconnected`, having done what was asked for or not.
    Blip,
    /// Has nothing to deliver yet, and wakes for it later.
    Delay,
    /// Delivers a record before the one that stands before it.
    Reorder,
    /// Leaves a record out.
    DropOne,
    /// Delivers the records of all topics to a feed of one.
    ForeignKey,
    /// Makes its streams anew, and says nothing of it.
    Recreate,
    /// Loses an acknowledgement, and the stamp with it.
    AckLost,
    /// Refuses commits, one after the other.
    FailNext,
    /// Delivers the newest payload with records of before.
    Aliased,
    /// Swaps a cell at whatever revision it is.
    BlindPut,
    /// Does not close.
    DeafClose,
    /// Closes when it has to, and somewhat later.
    SlowClose,
    /// Waits with what is told until those who listen have taken what was told before.
    Backpressure,
    /// Waits with what is appended until those who follow have taken what was appended before.
    FeedBackpressure,
    /// Acknowledges what it does not keep.
    Unstored,
    /// Appends behind whatever head there is.
    BlindAppend,
    /// Drops the newest record too.
    Overeager,
    /// Keeps floors in memory.
    FloorInMemory,
    /// Begins at the floor instead of below, and says nothing of it.
    SilentFloor,
    /// Wakes by the first waker that was given, whatever comes later.
    FirstWaker,
    /// Forgets of which version a payload is.
    Unversioned,
    /// Takes a stamp without a number.
    Lenient,
    /// Tells everything on one channel.
    OneChannel,
    /// Takes less than every backplane does.
    Narrow,
    /// Delivers records without their stamps.
    Unstamped,
    /// Delivers what was appended again as if it were new: under no stamp.
    RepeatsAsNew,
    /// Acknowledges images, and keeps none.
    ImagesUnkept,
    /// Keeps images in memory.
    ImagesInMemory,
    /// Says that there is no image where it cannot read one.
    UnreadIsNone,
    /// Keeps cells in memory.
    CellsInMemory,
    /// Acknowledges dead letters, and keeps none.
    LettersUnkept,
    /// Says for ever the era that it said first.
    SameEra,
}

/// One that was left out there would be tried by nobody, without a word. The last one is named here.
const _: () = assert!(Fault::ALL.len() == Fault::SameEra as usize + 1);

impl Fault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Redeliver,
        Self::Disconnect,
        Self::Blip,
        Self::Delay,
        Self::Reorder,
        Self::DropOne,
        Self::ForeignKey,
        Self::Recreate,
        Self::AckLost,
        Self::FailNext,
        Self::Aliased,
        Self::BlindPut,
        Self::DeafClose,
        Self::SlowClose,
        Self::Backpressure,
        Self::FeedBackpressure,
        Self::Unstored,
        Self::BlindAppend,
        Self::Overeager,
        Self::FloorInMemory,
        Self::SilentFloor,
        Self::FirstWaker,
        Self::Unversioned,
        Self::Lenient,
        Self::OneChannel,
        Self::Narrow,
        Self::Unstamped,
        Self::RepeatsAsNew,
        Self::ImagesUnkept,
        Self::ImagesInMemory,
        Self::UnreadIsNone,
        Self::CellsInMemory,
        Self::LettersUnkept,
        Self::SameEra,
    ];

    /// Those that keep the contract.
    pub const KEPT: &'static [Self] = &[Self::Redeliver, Self::Disconnect, Self::Blip, Self::Delay];

    /// Those that break it.
    pub const BROKEN: &'static [Self] = &[
        Self::Recreate,
        Self::FailNext,
        Self::Reorder,
        Self::DropOne,
        Self::ForeignKey,
        Self::Aliased,
        Self::BlindPut,
        Self::DeafClose,
        Self::SlowClose,
        Self::Unstored,
        Self::AckLost,
        Self::BlindAppend,
        Self::Overeager,
        Self::FloorInMemory,
        Self::SilentFloor,
        Self::FirstWaker,
        Self::Unversioned,
        Self::Lenient,
        Self::OneChannel,
    ];

    /// The statement of part A, or about [limits](crate::conformance::part_a::LIMITS), that has to find it; `None`: it keeps the contract, or
    /// breaks it in what only a statement of part B looks at ([`REDS`](crate::conformance::part_b::REDS)).
    #[must_use]
    pub const fn breaks(self) -> Option<u8> {
        Some(match self {
            Self::Redeliver | Self::Disconnect | Self::Blip | Self::Delay => return None,
            Self::Unstamped
            | Self::RepeatsAsNew
            | Self::ImagesUnkept
            | Self::ImagesInMemory
            | Self::UnreadIsNone
            | Self::CellsInMemory
            | Self::LettersUnkept
            | Self::Backpressure
            | Self::FeedBackpressure
            | Self::SameEra => return None,
            Self::Recreate | Self::FailNext => 1,
            Self::Reorder | Self::DropOne | Self::ForeignKey | Self::FirstWaker => 2,
            Self::Aliased | Self::Unversioned => 3,
            Self::BlindPut => 4,
            Self::DeafClose | Self::SlowClose => 5,
            Self::Unstored => 6,
            Self::AckLost | Self::Lenient => 7,
            Self::BlindAppend => 8,
            Self::Overeager => 9,
            Self::FloorInMemory => 10,
            Self::SilentFloor => 11,
            Self::OneChannel => 26,
            Self::Narrow => 27,
        })
    }
}

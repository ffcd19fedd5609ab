//! Following a kind: what there is, and then every change of it.
//!
//! A subscription is a state machine over one mapped log, and gathers nothing:
//!
//! ```text
//!   Rows ──────────► Net ──────────► Live
//!   the rows as of   what (S, S']    each change that is flushed,
//!   S, once each     comes to,       in order, none twice
//!                    round by round
//!     ▲                               │ too far behind, as the options say
//!     └───────────────────────────────┘
//! ```
//!
//! The three join without a gap and without a double: the rows are those of a view that ends at S, a round begins
//! where the one before ended, and the live part begins behind the last round. While it is in the first two, what
//! it has still to see is held back from compaction, up to a limit.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::format::row::RowOperation;
use crate::id::{Position, Seq};
use crate::journal::entry::Entry;
use crate::journal::pins::{Pin, PinnedBy};
use crate::journal::reader::LOOKS;
use crate::journal::region::Region;
use crate::journal::source::Source;
use crate::journal::subscriber::{Item, Lag, Missed, SubscribeOptions, Subscriber};
use crate::journal::view::View;
use crate::journal::waiting::{Place, Reading, Stopper, Until, wait_until};
use crate::state::change::{Change, ChangeKind, Marker, StateItem};
use crate::state::door::{Door, renewed};
use crate::state::kind::Kind;
use crate::state::net::{Net, Netted, follows, is_dropped_behind};
use crate::state::reading::{OwnedRow, Row, Walk};
use crate::state::row::{ALL_FIELDS, Said};
use crate::state::schema::Bound;
use crate::state::subscribing::{Behind, Choice};
use crate::state::token::{Because, Token};

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionStatus {
    /// It is being told the rows that there are.
    Bootstrapping,
    /// It is being told what has changed since those rows, or since its token.
    CatchingUp,
    /// It is told each change, from where it had come to on.
    Live,
}

/// Follows the live state of a kind: the rows that there are, and then each change; see
/// [`Store::subscribe`](crate::Store::subscribe).
///
/// It pulls, in the thread that calls it, and costs a writer nothing. It may be put into a
/// [`WaitSet`](crate::WaitSet).
pub struct Subscription<T> {
    kind: Kind<T>,
    phase: Phase,
    item: Held<T>,
    status: SubscriptionStatus,
    started: Token,
    /// It has been told that all the rows follow, and that those were all.
    has_begun: bool,
    follower: Follower,
}

/// What does not depend on the type.
struct Follower {
    bound: Arc<Bound>,
    choice: Choice,
    live: Subscriber,
    /// Since it began, in rows and rounds.
    steps: u32,
}

enum Phase {
    /// Begins anew with the next call.
    Begin {
        because: Option<Because>,
    },
    Rows {
        walk: Box<Walk>,
        through: u64,
        _pin: Option<Pin>,
    },
    /// A round is to begin behind this Seq. The one before told so many changes.
    Round {
        from: u64,
        /// What was told up to there was durable where this is.
        mark: Position,
        _pin: Option<Pin>,
        /// What it is to tell was held back since before it was known to be all there.
        was_held: bool,
        told: u64,
    },
    Net {
        net: Box<Net>,
        _pin: Option<Pin>,
        told: u64,
    },
    /// What holds back what it has not read until it has caught up.
    Live {
        pin: Option<Pin>,
    },
}

/// What it stepped to.
enum Held<T> {
    None,
    Marker(Marker),
    Change { what: ChangeKind, changed: u64, recreated: bool, by: HeldBy, previous: Option<OwnedRow<T>> },
}

/// Who holds the entry of a change.
#[derive(Clone, Copy, Debug)]
enum HeldBy {
    Walk,
    Net,
    Live,
}

impl<T: DeserializeOwned> Subscription<T> {
    pub(crate) fn begin(
        door: &Door,
        kind: Kind<T>,
        choice: Choice,
        from: Option<Token>,
        (until, spin): (Option<Until>, Duration),
    ) -> Result<Self> {
        let bound = door.bind("subscribe", kind)?;
        let lag = if choice.behind == Behind::LiveOnly { Lag::Skip } else { Lag::Disconnect };
        let options = SubscribeOptions::new().on_lag(lag).spin(spin);
        let is_counted = choice.behind != Behind::Conflate;
        let options = if is_counted { options.capacity(choice.capacity) } else { options };
        let live = door.subscribe(Region::Kind(bound.id), options, until)?;
        let follower = Follower { bound, choice, live, steps: 0 };
        follower.source().sync()?;
        let view = follower.source().durable_view()?;
        let newest = view.last_seq()?.map_or(0, Seq::get);
        let started = from.unwrap_or_else(|| follower.token(newest));
        let mut subscription = Self {
            kind,
            phase: Phase::Begin { because: None },
            item: Held::None,
            status: SubscriptionStatus::Live,
            started,
            has_begun: false,
            follower,
        };
        match from {
            Some(token) => subscription.go_on_from(token)?,
            None if choice.bootstrap => {}
            None => {
                let region = subscription.follower.region();
                subscription.follower.live.begin_behind(region, view, newest, newest);
                subscription.phase = Phase::Live { pin: None };
            }
        }
        Ok(subscription)
    }

    fn go_on_from(&mut self, token: Token) -> Result<()> {
        // It was durable when it was given out, also where this process does not know that yet.
        let newest = self.follower.source().view()?.last_seq()?.map_or(0, Seq::get);
        self.status = SubscriptionStatus::CatchingUp;
        self.phase = match token.trouble(self.follower.source().manifest(), newest) {
            Some(because) => Phase::Begin { because: Some(because) },
            // Whether that can still be told is looked up when the round begins.
            None => self.follower.round_behind(token.seq, Position::ZERO),
        };
        Ok(())
    }

    /// Steps to the next item. False: there is nothing more now. Never waits.
    ///
    /// # Errors
    ///
    /// `Lagged`, once and for all, under [`Behind::End`]; `Closed` or `Poisoned` when the log has ended and all of it
    /// was seen; `Corrupt` or `Io` for a row that cannot be read, behind which the next call goes on. Beside a writer of
    /// another process also `Schema`, again and again, once that writes a newer version of the kind or a type that does not fit,
    /// and as [`Reader::open`](crate::Reader::open) if the log has to be opened again and cannot be.
    pub fn advance(&mut self) -> Result<bool> {
        self.item = Held::None;
        let mut failures = 0;
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(found)) => return Ok(found),
                Err(error) if failures < LOOKS => {
                    failures += 1;
                    self.begin_anew(error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Another process's writer may take away what this one has yet to read, and what it has read: then it is told all the
    /// rows that there are now.
    fn begin_anew(&mut self, error: Error) -> Result<()> {
        let because = match error.kind() {
            ErrorKind::Compacted => Because::Compacted,
            ErrorKind::Rewound => Because::Rewound,
            _ => return Err(error),
        };
        if !self.follower.live.source_mut().open_again()? {
            return Err(error);
        }
        // Where it was about to begin, that is why.
        if !matches!(self.phase, Phase::Begin { .. }) {
            self.has_begun = true;
            self.phase = Phase::Begin { because: Some(because) };
        }
        Ok(())
    }

    /// `None`: it is in another phase now. A phase ends only where the next one begins: after an error it is where
    /// it was.
    fn step(&mut self) -> Result<Option<bool>> {
        match &self.phase {
            Phase::Begin { because } => self.begin_rows(*because).map(Some),
            Phase::Rows { .. } => self.step_in_rows().map(Some),
            Phase::Round { .. } => self.next_round(),
            Phase::Net { .. } => self.step_in_net(),
            Phase::Live { .. } => self.step_live(),
        }
    }

    fn begin_rows(&mut self, because: Option<Because>) -> Result<bool> {
        self.phase = Phase::Begin { because };
        let (view, through, pin) = self.follower.hold_what_is_there()?;
        self.follower.renew()?;
        let walk = Box::new(Walk::new(view, self.follower.bound.id));
        self.phase = Phase::Rows { walk, through, _pin: pin };
        self.status = SubscriptionStatus::Bootstrapping;
        self.item = Held::Marker(Marker::BootstrapBegin { rebootstrap: self.has_begun, because });
        Ok(true)
    }

    fn step_in_rows(&mut self) -> Result<bool> {
        let Phase::Rows { walk, through, .. } = &mut self.phase else { return Ok(false) };
        let through = *through;
        if self.follower.holds_too_much(through)? {
            self.has_begun = true;
            return self.begin_rows(Some(Because::HeldTooMuch));
        }
        if walk.advance()? {
            self.item = Held::Change {
                what: ChangeKind::Bootstrap,
                changed: ALL_FIELDS,
                recreated: false,
                by: HeldBy::Walk,
                previous: None,
            };
            return Ok(true);
        }
        let (token, mark) = (self.follower.token(through), walk.mark());
        let pin = self.follower.pin(through);
        self.phase = Phase::Round { from: through, mark, _pin: pin, was_held: true, told: u64::MAX };
        self.status = SubscriptionStatus::CatchingUp;
        self.item = Held::Marker(Marker::BootstrapComplete { token, rebootstrap: self.has_begun });
        self.has_begun = true;
        Ok(true)
    }

    /// Begins a round, or goes live where few changes can be left.
    fn next_round(&mut self) -> Result<Option<bool>> {
        let Phase::Round { from, told, was_held, .. } = self.phase else { return Ok(None) };
        let capacity = self.follower.choice.capacity;
        let view = self.follower.view_of_a_round()?;
        self.follower.renew()?;
        if is_dropped_behind(&view, self.follower.bound.id, from) {
            let because = self.follower.because_it_is_dropped(was_held);
            self.phase = Phase::Begin { because: Some(because) };
            return Ok(None);
        }
        let through = view.last_seq()?.map_or(from, |seq| seq.get().max(from));
        // What it has just looked through had nothing in it: else each entry of whatever kind that is appended meanwhile would
        // be a round more, and a call without an end.
        let is_idle = told == 0;
        if through - from <= capacity || told < capacity || is_idle {
            let region = self.follower.region();
            self.follower.live.begin_behind(region, view, from, through);
            let pin = self.follower.live.is_on_its_way().then(|| self.follower.pin(from)).flatten();
            self.phase = Phase::Live { pin };
            self.status = SubscriptionStatus::Live;
            return Ok(is_idle.then_some(false));
        }
        // What lies before it may be gone: then nobody knows the row before a change.
        self.follower.source().keep_whole(&view, from)?;
        let choice = &self.follower.choice;
        let net = Box::new(Net::new(view, Arc::clone(&self.follower.bound), (from, through), choice));
        self.phase = Phase::Net { net, _pin: self.follower.pin(from), told: 0 };
        self.status = SubscriptionStatus::CatchingUp;
        Ok(None)
    }

    fn step_in_net(&mut self) -> Result<Option<bool>> {
        let Phase::Net { net, told, .. } = &mut self.phase else { return Ok(None) };
        let Some(netted) = net.advance()? else {
            let (from, mark, told) = (net.through(), net.mark(), *told);
            self.phase = Phase::Round { from, mark, _pin: self.follower.pin(from), was_held: true, told };
            return Ok(None);
        };
        *told += 1;
        let what = match netted.operation {
            RowOperation::Created => ChangeKind::Created,
            RowOperation::Deleted => ChangeKind::Deleted,
            RowOperation::Updated | RowOperation::Sources => ChangeKind::Updated,
        };
        let is_asked = self.follower.choice.previous && what == ChangeKind::Updated;
        let previous = if is_asked { net.previous() } else { None };
        let previous = previous.map(|entry| Ok(Row::of(self.kind, entry.entry())?.to_owned())).transpose()?;
        let Netted { changed, recreated, .. } = netted;
        self.item = Held::Change { what, changed, recreated, by: HeldBy::Net, previous };
        Ok(Some(true))
    }

    fn step_live(&mut self) -> Result<Option<bool>> {
        let looked = self.follower.live.looked();
        let stepped = match self.follower.live.advance() {
            Err(error) if error.kind() == ErrorKind::Lagged => return self.fell_behind(error),
            stepped => stepped?,
        };
        let is_new = self.follower.renew().inspect_err(|_| self.follower.live.go_back_to(looked));
        if is_new? {
            self.phase = self.follower.round_behind(looked, self.follower.live.mark());
            return Ok(None);
        }
        if let Phase::Live { pin } = &mut self.phase {
            if self.follower.live.is_on_its_way() {
                pin.iter().for_each(|pin| pin.move_to(self.follower.live.looked()));
            } else {
                *pin = None;
            }
        }
        if !stepped {
            return Ok(Some(false));
        }
        if self.follower.choice.behind == Behind::Conflate {
            self.phase = self.follower.round_behind(looked, self.follower.live.mark());
            return Ok(None);
        }
        let held = match self.follower.live.item() {
            // What it gathered may lack a deletion now, though it was not too slow for anything that counts.
            Item::Missed(Missed { compacted: true, .. }) if self.follower.live.is_on_its_way() => {
                return self.begin_rows_held_too_long().map(Some);
            }
            Item::Missed(Missed { from, to, count, compacted }) => {
                Held::Marker(Marker::Missed { from, to, count, compacted })
            }
            Item::Entry(entry) => {
                let said = Said::of(&entry)?;
                let what = match said.operation {
                    RowOperation::Created => ChangeKind::Created,
                    RowOperation::Updated => ChangeKind::Updated,
                    RowOperation::Deleted => ChangeKind::Deleted,
                    RowOperation::Sources if self.follower.choice.sources => ChangeKind::Updated,
                    RowOperation::Sources => return Ok(None),
                };
                let is_asked = self.follower.choice.previous && said.operation == RowOperation::Updated;
                let previous = if is_asked { self.follower.row_before(self.kind, &entry)? } else { None };
                // Under whichever version its row was written.
                let is_of_the_set = said.operation == RowOperation::Sources;
                let changed = if is_of_the_set { 0 } else { said.changed(self.follower.bound.version) };
                Held::Change { what, changed, recreated: false, by: HeldBy::Live, previous }
            }
        };
        self.item = held;
        Ok(Some(true))
    }

    fn fell_behind(&mut self, error: Error) -> Result<Option<bool>> {
        let looked = self.follower.live.looked();
        self.has_begun = true;
        match self.follower.choice.behind {
            // Nothing counts until it has caught up: it was dropped.
            Behind::End | Behind::Full | Behind::Resume if self.follower.live.is_on_its_way() => {
                self.begin_rows_held_too_long().map(Some)
            }
            Behind::Full => self.begin_rows(Some(Because::Lagged)).map(Some),
            Behind::Resume | Behind::Conflate => {
                self.phase = self.follower.round_behind(looked, self.follower.live.mark());
                Ok(None)
            }
            Behind::End | Behind::LiveOnly => Err(error),
        }
    }

    /// What it had yet to catch up with was more than it may hold back.
    fn begin_rows_held_too_long(&mut self) -> Result<bool> {
        self.has_begun = true;
        self.begin_rows(Some(self.follower.because_it_is_dropped(true)))
    }

    /// What [`advance`](Self::advance) stepped to.
    ///
    /// # Panics
    ///
    /// If the last call of `advance` did not answer `true`.
    #[must_use]
    pub fn item(&self) -> StateItem<'_, T> {
        let (&what, &changed, &recreated, by, previous) = match &self.item {
            Held::Marker(marker) => return StateItem::Marker(*marker),
            Held::Change { what, changed, recreated, by, previous } => {
                (what, changed, recreated, by, previous.as_ref())
            }
            Held::None => panic!("advance() found nothing"),
        };
        // What is there was not made by anybody's operation now.
        let says_metadata = what != ChangeKind::Bootstrap || self.follower.choice.metadata;
        let entry = match (by, &self.phase) {
            (HeldBy::Walk, Phase::Rows { walk, .. }) => walk.entry(),
            (HeldBy::Net, Phase::Net { net, .. }) => net.entry(),
            (HeldBy::Live, _) => match self.follower.live.item() {
                Item::Entry(entry) => Some(entry),
                Item::Missed(_) => None,
            },
            _ => None,
        };
        let row = entry.and_then(|entry| Row::of(self.kind, entry).ok());
        let row = row.unwrap_or_else(|| panic!("advance() found nothing"));
        StateItem::Change(Change {
            metadata: if says_metadata { row.metadata() } else { &[] },
            row,
            kind: self.kind,
            what,
            changed,
            recreated,
            fields: &self.follower.bound.fields,
            previous,
        })
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn try_next(&mut self) -> Result<Option<StateItem<'_, T>>> {
        Ok(if self.advance()? { Some(self.item()) } else { None })
    }

    /// Waits for the next item; `None`: the subscription was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    #[allow(clippy::should_implement_trait, reason = "an item is borrowed from the subscription")]
    pub fn next(&mut self) -> Result<Option<StateItem<'_, T>>> {
        Ok(if self.wait(None)? { Some(self.item()) } else { None })
    }

    /// Waits for the next item, at most so long; `None`: the time is over, or it was stopped.
    ///
    /// # Errors
    ///
    /// As [`advance`](Self::advance).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<StateItem<'_, T>>> {
        Ok(if self.wait(Instant::now().checked_add(timeout))? { Some(self.item()) } else { None })
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        Ok(wait_until(self, deadline, |reader| Ok(reader.advance()?.then_some(())))?.is_some())
    }

    /// Begins anew with the next call: with all the rows that there are then.
    pub fn rebootstrap(&mut self) {
        self.item = Held::None;
        // It has been told that it begins, if not yet that those were all.
        self.has_begun |= matches!(self.phase, Phase::Rows { .. });
        self.phase = Phase::Begin { because: Some(Because::Asked) };
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> SubscriptionStatus {
        match self.phase {
            Phase::Begin { .. } => SubscriptionStatus::Bootstrapping,
            _ => self.status,
        }
    }

    /// Where it began: what was flushed later it is told.
    #[must_use]
    pub fn started_at(&self) -> Token {
        self.started
    }

    /// How far it has come: a place that is durable now, and that [`resume`](crate::SubscriptionBuilder::resume) takes.
    /// `None`: in the middle of a bootstrap, or of what the changes come to since a token or a lag, there is no such place;
    /// there is one before it, and behind it. Beside a writer of another process, which cannot be asked for a sync, there is
    /// none either while something that it was told is not known to be durable: only with [`Until::Visible`].
    ///
    /// # Errors
    ///
    /// `Poisoned` or `Closed` if what it was told is not durable, and will not be.
    pub fn token(&self) -> Result<Option<Token>> {
        let (seq, mark) = match &self.phase {
            // Of a round's changes some are told, and nothing says which.
            Phase::Begin { .. } | Phase::Rows { .. } | Phase::Net { .. } => return Ok(None),
            Phase::Round { from, mark, .. } => (*from, *mark),
            Phase::Live { .. } => (self.follower.live.looked(), self.follower.live.mark()),
        };
        // In a mode that does not sync it may have been told what a power cut would take.
        Ok(self.follower.source().makes_durable(mark)?.then(|| self.follower.token(seq)))
    }

    /// Ends its waiting, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.follower.live.stopper()
    }
}

impl Follower {
    fn source(&self) -> &Source {
        self.live.source()
    }

    fn region(&self) -> Region {
        Region::Kind(self.bound.id)
    }

    fn token(&self, seq: u64) -> Token {
        Token::of(self.source().manifest(), seq)
    }

    /// What the kind means by now. True: there was none before, and there is one.
    fn renew(&mut self) -> Result<bool> {
        let Some(bound) = renewed(self.source(), &self.bound)? else { return Ok(false) };
        let is_new = self.bound.is_missing() && !bound.is_missing();
        self.bound = bound;
        Ok(is_new)
    }

    /// The log as it is, where it ends, and what holds it back from there.
    fn hold_what_is_there(&self) -> Result<(View, u64, Option<Pin>)> {
        // Before it is known where it ends, nothing is dropped.
        let _all = self.source().pins().map(|pins| pins.pin(PinnedBy::Bootstrap, 0));
        self.source().sync()?;
        let view = self.source().whole_durable_view()?;
        let through = view.last_seq()?.map_or(0, Seq::get);
        Ok((view, through, self.pin(through)))
    }

    /// The log up to where a round goes. Where nobody can be asked for a sync, that is as far as the live part has seen: what
    /// was too much for it has to lie before the end of the round.
    fn view_of_a_round(&self) -> Result<View> {
        // Who conflates is told what a live one is told, and nobody syncs for its sake.
        if self.choice.behind == Behind::Conflate || !self.source().can_sync() {
            return self.live.view();
        }
        // Where nothing more becomes durable, that is told when all before it was.
        let _ = self.source().sync();
        self.source().durable_view()
    }

    fn pin(&self, behind: u64) -> Option<Pin> {
        let most = self.choice.bootstrap_hold;
        self.source().pins().map(|pins| pins.pin_at_most(PinnedBy::Bootstrap, behind, most))
    }

    /// Of what it held back all the time only that can go which is more than it may hold.
    fn because_it_is_dropped(&self, was_held: bool) -> Because {
        if was_held && self.source().pins().is_some() { Because::HeldTooMuch } else { Because::Compacted }
    }

    fn round_behind(&self, from: u64, mark: Position) -> Phase {
        Phase::Round { from, mark, _pin: self.pin(from), was_held: false, told: u64::MAX }
    }

    /// Looks now and then, where it holds anything back.
    fn holds_too_much(&mut self, behind: u64) -> Result<bool> {
        const EVERY: u32 = 1024;
        self.steps = self.steps.wrapping_add(1);
        if self.source().pins().is_none() || !self.steps.is_multiple_of(EVERY) {
            return Ok(false);
        }
        Ok(self.source().view()?.bytes_from(behind + 1)? > self.choice.bootstrap_hold)
    }

    /// The row that an entity had before an update, if it is still there: that of the frame right before.
    fn row_before<T>(&self, kind: Kind<T>, entry: &Entry<'_>) -> Result<Option<OwnedRow<T>>> {
        let view = self.source().view()?;
        for before in view.entity_behind(self.bound.id, entry.key(), 0).rev() {
            let before = match before {
                // Damage to what was takes nothing away of what is; nor does another process that has removed its file.
                Err(error) if matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Corrupt) => {
                    return Ok(None);
                }
                before => before?,
            };
            if before.seq() < entry.seq() {
                let is_it = follows(entry, &before) && Said::of(&before)?.is_alive();
                return Ok(if is_it { Some(Row::of(kind, before)?.to_owned()) } else { None });
            }
        }
        Ok(None)
    }
}

impl<T> Reading for Subscription<T> {
    fn place(&self) -> Place<'_> {
        let place = self.follower.live.place();
        let has_more = place.has_more || !matches!(self.phase, Phase::Live { .. });
        Place { has_more, ..place }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({:?}, {:?}, behind {})", self.kind, self.status, self.follower.live.looked())
    }
}

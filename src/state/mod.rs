//! Live state: what is true now, who says so, and how it came to be.
//!
//! An *entity* of a state kind has a *row*, a value of the kind's type, as long as at least one *source* asserts
//! it. Sources assert a whole row, patch some fields, or retract; what the operations of a *window* come to is
//! appended as one batch of row frames, at most one for each entity. Whoever wants to know reads the rows
//! ([`get`](crate::Store::get), [`scan`](crate::Store::scan)), or follows them from a bootstrap on
//! ([`subscribe`](crate::Store::subscribe)).
//!
//! **The newest row frame of an entity says all there is to know of it now**: its row, its version, and the set of
//! sources that assert it. So state is read like everything else, from the mapped log by the index of
//! entities, and nothing of it is kept on the heap but the windows, and some thousands of entities that were touched a moment
//! ago.
//!
//! * [`pack`] — encoded values without a type; [`row`] — rows and what differs in them
//! * [`kind`], [`schema`] — the typed handle, and what it means in one store; [`field`] — fields by name and type
//! * [`pending`], [`window`] — what operations come to; [`recent`] — what need not be looked up; [`engine`] — how they are accepted, [`ticket`] — and what became of them;
//!   [`flushing`] — when that is appended, and who waits for it; [`untold`] — what failed while nobody did
//! * [`batching`] — what several sources say at once, with facts
//! * [`source`] — the sessions that write; [`epoch`] — what a source says again, and what not any more
//! * [`sessions`] — who has one, and how it is claimed; [`liveness`] — whose time is up; [`ending`] — what becomes of that
//!   which a source asserted; [`endings`] — whose that is just now; [`presence`] — who comes and goes, as facts
//! * [`reading`] — point reads and scans; [`newest`] — which frames are those that count; [`past`] — those of an earlier moment; [`net`] — what a stretch of the log comes to; [`token`] — a position that
//!   leaves the store
//! * [`subscribing`], [`subscription`], [`change`] — who follows: how, the state machine, and what it tells; [`door`] — in
//!   the process that writes, or beside it
//! * [`operations`], [`event`], [`events`] — what was said, one by one, and who is told so
//! * [`mirroring`] — what is handed to a target outside of the store

pub(crate) mod batching;
pub(crate) mod change;
pub(crate) mod door;
pub(crate) mod ending;
pub(crate) mod endings;
pub(crate) mod engine;
pub(crate) mod epoch;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod field;
pub(crate) mod flushing;
pub(crate) mod kind;
pub(crate) mod liveness;
pub(crate) mod mirroring;
pub(crate) mod net;
pub(crate) mod newest;
pub(crate) mod operations;
pub(crate) mod pack;
pub(crate) mod past;
pub(crate) mod pending;
pub(crate) mod presence;
pub(crate) mod reading;
pub(crate) mod recent;
pub(crate) mod row;
pub(crate) mod schema;
pub(crate) mod sessions;
pub(crate) mod source;
pub(crate) mod subscribing;
pub(crate) mod subscription;
pub(crate) mod ticket;
pub(crate) mod token;
pub(crate) mod untold;
pub(crate) mod window;

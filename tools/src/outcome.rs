//! How a command ends: what the exit code says, and what an interrupt does.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exchange::{BadFile, Fault, Interrupted, NotCarried};
use esker::ErrorKind;
use signal_hook::consts::SIGINT;

/// What a command that ran to its end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fine,
    /// Damage, or whatever the command looks for.
    Findings,
    /// What was asked for is not in the store, or needs not be made; which is fine otherwise.
    Missing,
    /// The store went while it was looked at.
    Gone,
    Interrupted,
    /// What a monitoring plugin answers with.
    Plugin(u8),
}

impl Outcome {
    pub(crate) fn of_findings(count: u64) -> Self {
        if count == 0 { Self::Fine } else { Self::Findings }
    }
}

const INTERRUPTED: u8 = 130;

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fine => Self::SUCCESS,
            Outcome::Findings => Self::from(1),
            Outcome::Missing => Self::from(2),
            Outcome::Gone => Self::from(3),
            Outcome::Interrupted => Self::from(INTERRUPTED),
            Outcome::Plugin(code) => Self::from(code),
        }
    }
}

/// The arguments ask for something that cannot be.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// What is looked at is no store yet.
#[derive(Debug)]
pub(crate) struct BeingMade {
    pub(crate) path: String,
    pub(crate) pid: u32,
}

impl std::fmt::Display for BeingMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, pid } = self;
        write!(
            f,
            "look at the store {path}: it is being made by pid {pid}, and has no manifest before it is whole; "
        )?;
        f.write_str("look again when that has ended")
    }
}

impl std::error::Error for BeingMade {}

/// What an error says, with its causes: each once, as some say themselves what theirs was.
pub(crate) fn text_of(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The exit code of a command that failed.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Usage>() {
        return ExitCode::from(2);
    }
    if error.is::<BeingMade>() {
        return ExitCode::from(3);
    }
    if error.is::<Interrupted>() {
        return Outcome::Interrupted.into();
    }
    let file = error.downcast_ref::<BadFile>().map(|bad| bad.fault);
    if let Some(fault) = file.or(error.downcast_ref::<NotCarried>().map(|entry| entry.fault)) {
        return ExitCode::from(match fault {
            Fault::Damaged => 1,
            Fault::NotAnExport | Fault::TooNew => 3,
        });
    }
    if let Some(error) = error.downcast_ref::<esker::Error>() {
        return ExitCode::from(match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Rewound => 1,
            // What was asked for cannot be: an offset past the end, a target that is not empty.
            ErrorKind::InvalidInput | ErrorKind::InvalidOptions | ErrorKind::AlreadyExists => 2,
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::PermissionDenied | ErrorKind::Poisoned => 4,
            _ => 3,
        });
    }
    match error.downcast_ref::<io::Error>() {
        // Whoever read the output has seen enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => ExitCode::from(4),
    }
}

/// The wish of the user to end.
#[derive(Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends the process with the right code at an interrupt: at once, or at the second one if
    /// the command looks at [`is_set`](Self::is_set) itself and ends in order.
    pub(crate) fn catch(in_order: bool) -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(!in_order));
        signal_hook::flag::register_conditional_shutdown(SIGINT, i32::from(INTERRUPTED), Arc::clone(&flag))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&flag))?;
        Ok(Self(flag))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What a call came to that ends, and clears up, when it is not to go on.
    pub(crate) fn of<T>(&self, done: esker::Result<T>) -> anyhow::Result<T> {
        match done {
            Err(_) if self.is_set() => Err(Interrupted.into()),
            done => Ok(done?),
        }
    }
}

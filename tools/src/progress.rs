//! How far a long piece of work is, on stderr: bytes done of all, how fast, and how long it takes still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use esker::Onlooker;
use indicatif::{ProgressBar, ProgressStyle};

use crate::outcome::Interrupt;

/// What takes no longer than this is not shown.
const PATIENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// What is drawn at the moment: one line at the end of the terminal, which nothing else may be written into.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes a whole line to the terminal, above what is drawn.
pub(crate) fn above(write: impl FnOnce()) {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// What comes now on the terminal shows by itself that something goes on: nothing is drawn any more until other work begins.
pub(crate) fn give_way() {
    if let Some(bar) = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

/// How far a piece of work is. Whoever does it says so, and asks it whether it is to go on.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    done: AtomicU64,
    all: AtomicU64,
    interrupt: Option<&'a Interrupt>,
}

impl Shown<'_> {
    /// So many bytes there are.
    pub(crate) fn expect(&self, bytes: u64) {
        self.all.store(bytes, Ordering::Relaxed);
    }

    /// So many more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Of the first of two pieces of work over the same bytes. The second may end before all is done: it need not come by
    /// what was set aside for later.
    pub(crate) fn half(&self) -> impl Onlooker {
        Half(self)
    }
}

struct Half<'a>(&'a Shown<'a>);

impl Onlooker for Half<'_> {
    fn goes_on(&self) -> bool {
        self.0.goes_on()
    }

    fn sees(&self, done: u64, all: u64) {
        self.0.sees(done, all.saturating_mul(2));
    }
}

impl Onlooker for &Shown<'_> {
    fn goes_on(&self) -> bool {
        self.interrupt.is_none_or(|interrupt| !interrupt.is_set())
    }

    fn sees(&self, done: u64, all: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.all.store(all, Ordering::Relaxed);
    }
}

/// Shows that something goes on, if it takes longer than half a second and somebody watches.
pub(crate) fn busy<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    busy_with(what, None, |_| work())
}

/// The same of something that says how far it is.
pub(crate) fn busy_with<T>(
    what: &'static str,
    interrupt: Option<&Interrupt>,
    work: impl FnOnce(&Shown<'_>) -> T,
) -> T {
    let shown = Shown { done: AtomicU64::new(0), all: AtomicU64::new(0), interrupt };
    std::thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        scope.spawn(|| draw(what, &shown, waiting));
        let result = work(&shown);
        drop(done);
        result
    })
}

/// Until the work ends. Hidden by itself where stderr is no terminal.
fn draw(what: &str, shown: &Shown<'_>, waiting: Receiver<()>) {
    let begun = Instant::now();
    let goes_on = |time| waiting.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if !goes_on(PATIENCE) {
        return;
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    loop {
        let (done, all) = (shown.done.load(Ordering::Relaxed), shown.all.load(Ordering::Relaxed));
        {
            let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(bar) = &*drawn else { return };
            bar.set_message(text(what, done, all, begun.elapsed()));
            bar.tick();
        }
        if !goes_on(TICK) {
            break;
        }
    }
    give_way();
}

/// What is shown. Of work that does not say how much there is, only for how long it goes on.
fn text(what: &str, done: u64, all: u64, passed: Duration) -> String {
    let seconds = passed.as_secs();
    if all == 0 {
        return format!("{what} {}", clock(seconds));
    }
    let done = done.min(all);
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = scaled(done, 1000, millis);
    let mut text = format!("{what} {} of {}, {}/s", bytes(done), bytes(all), bytes(rate));
    if done > 0 {
        text += &format!(", {} left", clock(scaled(all - done, millis, done) / 1000));
    }
    text
}

/// A number times another, by a third: none of them so large that it would not fit.
fn scaled(number: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(number) * u128::from(by) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

fn clock(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let unit = |at: usize| 1_u64 << (10 * (at + 1));
    match UNITS.iter().enumerate().rev().find(|(at, _)| count >= unit(*at)) {
        Some((at, name)) => {
            let tenths = scaled(count, 10, unit(at));
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_much_is_done_how_fast_and_how_long_it_takes_still() {
        let second = Duration::from_secs(1);
        assert_eq!(text("verifying", 0, 0, 61 * second), "verifying 1:01");
        assert_eq!(text("verifying", 0, 2048, second), "verifying 0 B of 2.0 KiB, 0 B/s");
        let half = text("copying", 512 << 20, 1 << 30, 8 * second);
        assert_eq!(half, "copying 512.0 MiB of 1.0 GiB, 64.0 MiB/s, 0:08 left");
        let end = text("copying", 3 << 40, 1 << 40, second);
        assert_eq!(end, "copying 1.0 TiB of 1.0 TiB, 1.0 TiB/s, 0:00 left");
        assert!(text("copying", 1, u64::MAX, Duration::MAX).contains("of 16777215.9 TiB"));
        assert_eq!(
            (bytes(1023), bytes(1024), bytes(1536)),
            ("1023 B".into(), "1.0 KiB".into(), "1.5 KiB".into())
        );
    }

    #[test]
    fn two_pieces_of_work_are_shown_as_one() {
        let shown = busy_with("drawing", None, |shown| {
            shown.half().sees(9, 9);
            shown.add(3);
            (shown.done.load(Ordering::Relaxed), shown.all.load(Ordering::Relaxed))
        });
        assert_eq!(shown, (12, 18));
    }

    #[test]
    fn an_onlooker_is_told_and_asked() {
        let told = busy_with("copying", None, |shown| {
            shown.sees(3, 9);
            assert!(shown.goes_on());
            text("copying", shown.done.load(Ordering::Relaxed), shown.all.load(Ordering::Relaxed), PATIENCE)
        });
        assert!(told.starts_with("copying 3 B of 9 B"), "{told}");
    }
}

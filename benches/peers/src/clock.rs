//! Time and order statistics: a cheap clock for single appends, percentiles, medians.

use std::time::{Duration, Instant};

/// Counts ticks of the processor where those run at a constant rate, nanoseconds elsewhere.
///
/// Reading it costs about 10 ns; a pair of `Instant::now` costs about 47, half of a fast append.
pub struct Clock {
    nanoseconds_per_tick: f64,
    /// The least difference between two readings: some processors count in steps of 10 ns.
    step: u64,
}

impl Clock {
    /// Compares ticks with the system's clock for 50 ms.
    pub fn calibrated() -> Self {
        let (start, first) = (Instant::now(), ticks());
        let (mut last, mut step) = (first, u64::MAX);
        while start.elapsed() < Duration::from_millis(50) {
            let now = ticks();
            if now > last {
                step = step.min(now - last);
            }
            last = now;
        }
        let passed = (ticks() - first).max(1);
        Self { nanoseconds_per_tick: start.elapsed().as_nanos() as f64 / passed as f64, step }
    }

    #[inline]
    pub fn ticks(&self) -> u64 {
        ticks()
    }

    /// The same once all loads before it are done: a short read behind a pause would else seem to take less than it does,
    /// because the processor reads the counter before its answer is there.
    #[inline]
    pub fn ticks_behind_loads(&self) -> u64 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 processor has this instruction; it touches no memory.
        unsafe {
            core::arch::x86_64::_mm_lfence();
        }
        ticks()
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has this instruction; it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ticks() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Single durations, kept in memory that was touched before the first of them.
pub struct Latencies {
    ticks: Vec<u64>,
}

impl Latencies {
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty()
    }

    pub fn with_room_for(count: u64) -> Self {
        let mut ticks = vec![1; count as usize];
        ticks.clear();
        Self { ticks }
    }

    #[inline]
    pub fn record(&mut self, ticks: u64) {
        self.ticks.push(ticks);
    }

    pub fn sorted(mut self, clock: &Clock) -> Percentiles<'_> {
        self.ticks.sort_unstable();
        Percentiles { ticks: self.ticks, clock }
    }
}

pub struct Percentiles<'a> {
    ticks: Vec<u64>,
    clock: &'a Clock,
}

impl Percentiles<'_> {
    /// The nanoseconds that this share stays below.
    ///
    /// Durations that the clock's steps made equal are taken to lie evenly within a step, as for the
    /// median of grouped data: else a p50 of 70 ns could not be told from one of 60.
    pub fn at(&self, share: f64) -> f64 {
        let rank = (self.ticks.len().saturating_sub(1) as f64 * share).round() as usize;
        let Some(&value) = self.ticks.get(rank) else { return f64::NAN };
        let below = self.ticks.partition_point(|&other| other < value);
        let equal = self.ticks.partition_point(|&other| other <= value) - below;
        let within = ((rank - below) as f64 + 0.5) / equal as f64 - 0.5;
        (value as f64 + within * self.clock.step as f64).max(0.0) * self.clock.nanoseconds_per_tick
    }

    pub fn greatest(&self) -> f64 {
        self.ticks.last().map_or(f64::NAN, |&ticks| ticks as f64 * self.clock.nanoseconds_per_tick)
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Greatest less smallest, in percent of the median.
pub fn spread_percent(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(values);
    if middle == 0.0 { 0.0 } else { (most - least) / middle * 100.0 }
}

//! What a process takes of memory: what is resident and in no file, and what of it is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// What of this process is in memory and in no file.
pub(crate) fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The system's allocator, which counts what is allocated once it is told to: who is timed does not pay for it.
pub(crate) struct Counting {
    is_counting: AtomicBool,
    bytes: AtomicI64,
}

impl Counting {
    pub(crate) const fn new() -> Self {
        Self { is_counting: AtomicBool::new(false), bytes: AtomicI64::new(0) }
    }

    pub(crate) fn begin(&self) {
        self.is_counting.store(true, Ordering::Relaxed);
    }

    /// What is allocated more than when it began.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: i64) {
        if self.is_counting.load(Ordering::Relaxed) {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

fn size(layout: Layout) -> i64 {
    // A layout is never larger than that.
    layout.size() as i64
}

// SAFETY: every call is the system allocator's own, with the arguments that it was made with.
#[allow(unsafe_code, reason = "an allocator can be written in no other way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(size(layout));
        // SAFETY: the caller promises what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.add(-size(layout));
        // SAFETY: `at` is the system allocator's, of this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

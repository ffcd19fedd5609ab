//! Calls of the user's code, whose panics are its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls what may panic, also while what it panicked with is dropped. A panic is answered as a text.
pub(crate) fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    let outcome = catch_unwind(AssertUnwindSafe(code));
    outcome.map_err(|panic| {
        let text = text_of(&*panic);
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            // Whoever panics while a panic is dropped is not asked again.
            std::mem::forget(another);
        }
        text
    })
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
    format!("panicked: {text}")
}

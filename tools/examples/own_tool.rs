//! A tool of an application's own, which knows a codec that stores do not name: invoices are cents, eight bytes.
//!
//! ```text
//! cargo run -p esker-tools --example own_tool -- dump harbour.esker --kind invoice
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    esker_tools::Tool::new().name("harbour").translate("invoice", cents).run(std::env::args_os())
}

fn cents(payload: &[u8]) -> Result<String, String> {
    let bytes = payload.try_into().map_err(|_| format!("{} bytes, where 8 are an amount", payload.len()))?;
    Ok(format!("{} cents", u64::from_le_bytes(bytes)))
}

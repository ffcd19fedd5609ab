//! The inspection tool.

fn main() {}

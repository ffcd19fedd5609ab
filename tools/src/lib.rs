//! What of the tool others can use: stores as lines of text, and back.

pub mod exchange;

//! What messages tell a person to type: commands of this program, as a shell takes them.

use std::path::Path;
use std::str::Utf8Chunk;

use esker::CursorInfo;
use esker::dump::{escaped, is_unprintable};

use crate::output;

/// A command of this program on a store, a backup or a file; more words may follow.
pub(crate) fn on(command: &str, path: &Path) -> String {
    format!("{} {command} {}", output::name(), path_of(path))
}

/// How a cursor goes on under which nobody can watch: where it was, if only the era is another one since a repair or a restore.
pub(crate) fn reset_of(cursor: &CursorInfo, path: &Path) -> String {
    let to = if cursor.lost { "oldest" } else { "+0" };
    format!("{} {} --to {to} --execute", on("cursor reset", path), quoted(&cursor.name))
}

/// A path for a shell: never taken for an option, and of any bytes.
pub(crate) fn path_of(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let here = if bytes.starts_with(b"-") { "./" } else { "" };
    match path.to_str() {
        Some(text) => quoted(&format!("{here}{text}")),
        None => format!("$'{here}{}'", bytes.utf8_chunks().map(chunk_escaped).collect::<String>()),
    }
}

/// Text, and the bytes behind it that are none, as `$'...'` takes them.
fn chunk_escaped(chunk: Utf8Chunk<'_>) -> String {
    let bytes = chunk.invalid().iter().map(|byte| format!(r"\x{byte:02x}"));
    std::iter::once(text_escaped(chunk.valid())).chain(bytes).collect()
}

fn text_escaped(text: &str) -> String {
    escaped(text, false).replace('\'', r"\'")
}

/// A word for a shell, quoted where it has to be.
pub(crate) fn quoted(word: &str) -> String {
    if word.chars().any(is_unprintable) {
        return format!("$'{}'", text_escaped(word));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_word_is_quoted_for_a_shell_only_where_it_has_to_be() {
        let cases = [
            ("audit-1", "audit-1"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("it's\n\\", r"$'it\'s\n\\'"),
            ("", "''"),
        ];
        for (word, expected) in cases {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn a_path_is_no_option_and_may_have_any_bytes() {
        let cases: [(&[u8], &str); 6] = [
            (b"a.esker", "a.esker"),
            (b"-a", "./-a"),
            (b"-a b", "'./-a b'"),
            (b"a-", "a-"),
            (b"it's\xff\\b\xc3", r"$'it\'s\xff\\b\xc3'"),
            (b"-\xff", r"$'./-\xff'"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(path_of(Path::new(OsStr::from_bytes(bytes))), expected);
        }
    }
}

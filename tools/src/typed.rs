//! What messages tell a person to type: commands of this program, as a shell takes them.

use std::path::Path;

use esker::dump::{escaped, is_unprintable};

use crate::output;

/// A command of this program on a store, a backup or a file; more words may follow.
pub(crate) fn on(command: &str, path: &Path) -> String {
    format!("{} {command} {}", output::name(), path_of(path))
}

/// A path for a shell.
pub(crate) fn path_of(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word for a shell, quoted where it has to be.
pub(crate) fn quoted(word: &str) -> String {
    if word.chars().any(is_unprintable) {
        return format!("$'{}'", escaped(word, false).replace('\'', r"\'"));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
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
}

//! What an error or a finding means, how it comes about, what was lost, and what to do.

mod errors;
mod findings;
mod glossary;
mod states;

use esker::ErrorKind;
use serde::Serialize;

pub(crate) use findings::Code;

/// What there is to say about a code.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Words {
    pub(crate) meaning: &'static str,
    /// A word has none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) cause: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) lost: &'static str,
    pub(crate) next: &'static [&'static str],
}

/// A code and its page.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) code: &'static str,
    /// `error`, `finding` or `word`.
    pub(crate) of: &'static str,
    #[serde(flatten)]
    pub(crate) words: Words,
}

/// All pages: errors in the order of their declaration, then findings.
pub(crate) fn all() -> impl Iterator<Item = Explanation> {
    let errors = ErrorKind::ALL.iter().filter_map(|kind| of_error(*kind));
    errors.chain(Code::ALL.iter().map(|code| of_finding(*code)))
}

/// The words that the tool shows.
pub(crate) fn words() -> impl Iterator<Item = Explanation> {
    glossary::all().map(of_word)
}

/// The page about a kind of error.
pub(crate) fn of_error(kind: ErrorKind) -> Option<Explanation> {
    errors::of(kind).map(|words| Explanation { code: kind.name(), of: "error", words })
}

/// The pages of a code, however it is written: `not-found`, `NotFound`, `not found`, `NOT_FOUND`, or `no store there`, as the
/// error says it; of a word that `verify` prints, all that it may stand for.
pub(crate) fn find(code: &str) -> Vec<Explanation> {
    let wanted = plain(code);
    let is_named = |page: &Explanation| plain(page.code) == wanted;
    if let Some(page) = all().find(is_named) {
        return vec![page];
    }
    let said = ErrorKind::ALL.iter().filter(|kind| plain(&kind.to_string()) == wanted);
    let findings = Code::ALL.iter().filter(|code| code.said_as().contains(&&*wanted));
    let word = glossary::find(&wanted, plain).map(of_word);
    said.filter_map(|kind| of_error(*kind))
        .chain(findings.map(|code| of_finding(*code)))
        .chain(word)
        .collect()
}

fn of_word((code, words): (&'static str, Words)) -> Explanation {
    Explanation { code, of: "word", words }
}

fn of_finding(code: Code) -> Explanation {
    Explanation { code: code.name(), of: "finding", words: code.words() }
}

fn plain(code: &str) -> String {
    code.chars().filter(|one| one.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_of_error_has_a_page() {
        let without: Vec<_> = ErrorKind::ALL.iter().filter(|kind| of_error(**kind).is_none()).collect();
        assert!(without.is_empty(), "tools/src/explain/errors.rs has no words for {without:?}");
    }

    #[test]
    fn no_two_pages_have_one_code_and_none_is_empty() {
        let codes: HashSet<String> = all().map(|page| plain(page.code)).collect();
        assert_eq!(codes.len(), all().count());
        for page in all() {
            let Words { meaning, cause, lost, next } = page.words;
            assert!([meaning, cause, lost].iter().all(|text| text.ends_with('.')), "{}", page.code);
            assert!(!next.is_empty() && next.iter().all(|step| !step.is_empty()), "{}", page.code);
            assert!([meaning, cause, lost].iter().all(|text| !text.contains("  ")), "{}", page.code);
        }
    }

    #[test]
    fn a_word_has_one_page_that_no_code_has_and_says_where_it_is_seen() {
        for page in words() {
            let found = find(page.code);
            assert_eq!(found.len(), 1, "{}", page.code);
            assert_eq!(found[0].of, "word", "{}", page.code);
            assert!(page.words.meaning.ends_with('.') && !page.words.meaning.contains("  "), "{}", page.code);
            assert!(!page.words.next.is_empty(), "{}", page.code);
        }
        assert_eq!(find("stands-for")[0].code, "part");
    }

    #[test]
    fn a_code_is_found_however_it_is_written() {
        let codes = |code: &str| find(code).iter().map(|page| page.code).collect::<Vec<_>>();
        for code in ["not-found", "NotFound", "NOT_FOUND", "not found", "no store there"] {
            assert_eq!(codes(code), ["not-found"], "{code}");
        }
        for kind in ErrorKind::ALL {
            assert_eq!(codes(&format!("{kind:?}")), [kind.name()]);
            assert!(codes(&kind.to_string()).contains(&kind.name()), "{kind}");
        }
        assert!(find("nonsense").is_empty() && find("").is_empty());
    }

    #[test]
    fn every_word_that_a_verification_prints_has_pages() {
        for (word, count) in [
            ("damage", 4),
            ("derived", 3),
            ("unread", 1),
            ("note", 1),
            ("payload", 1),
            ("invalid", 8),
            ("incomplete", 1),
        ] {
            assert_eq!(find(word).len(), count, "{word}");
        }
    }
}

//! The shape of the source, held by a machine: imports only point down, `unsafe` lives in one
//! file, and no file grows into two ideas.
//!
//! The checker reads source as text, without comments and literals, and resolves every path
//! that begins with `crate`, `self` or `super`, in a `use` or in the middle of a line. It is
//! itself tested on made-up sources: a rule that has never failed is no rule.

#![allow(clippy::indexing_slicing, clippy::string_slice, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layers, from the top down. A module may name modules of lower lines, never of higher
/// ones, and never a neighbour on its own line.
const LAYERS: &[&[&str]] = &[
    &["metrics"],             // what is counted, by name; nobody here imports it
    &["dump", "conformance"], // one line a frame; what backplanes are tried with
    &["store"],               // the typed facade that most people open
    &["fold", "state"],       // values derived from entries; what is true now, and who says so
    &["backplane", "codec"],  // events and cells behind one trait; values to bytes and back
    &["journal"],             // bytes; one writer; the lock order and the threads
    &["options"],
    &["clock"],           // what time it is
    &["compact", "feed"], // what is dropped and kept; who sleeps for what, and is woken
    &["cursor", "index"],
    &["log"],    // order, marks, commit, rotation, recovery
    &["disk"],   // files and the mapping
    &["format"], // bytes and their meaning
    &["error"],
    &["id"],
    &["sync", "meter", "trace"], // locks and atomics; what is counted, and what is told
];

/// The one file that may say `unsafe`.
const UNSAFE_FILE: &str = "src/disk/map.rs";
/// Past this many lines a second idea has moved in.
const LINES_MAX: usize = 700;
/// What the library never does: it waits for conditions, and answers through values.
const BANNED_NAMES: &[&str] = &["sleep", "println", "print", "eprintln", "eprint", "dbg"];

#[test]
fn imports_only_point_down() {
    let problems: Vec<String> =
        sources().iter().flat_map(|(file, text)| check_imports(file, &lex(text))).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let missing: Vec<String> = sources()
        .keys()
        .filter_map(|file| module_of(file).into_iter().next())
        .filter(|module| layer_of(module).is_none())
        .collect();
    assert!(missing.is_empty(), "give these modules a line in LAYERS: {missing:?}");
}

#[test]
fn unsafe_is_in_one_file_and_nothing_sleeps_or_prints() {
    let problems: Vec<String> =
        sources().iter().flat_map(|(file, text)| check_names(file, &lex(text))).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn no_file_holds_more_than_one_idea() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines, over {LINES_MAX}"))
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

#[test]
fn nothing_names_a_place_on_somebody_s_machine() {
    let mut problems = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in files_under(root, &|path| !is_made_by_a_build(root, path)) {
        // What is not text holds no path that anybody wrote.
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        problems.extend(check_paths(&name, &text));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn a_planted_import_that_points_up_is_found_however_it_is_written() {
    let planted = [
        ("src/format/frame.rs", "use crate::log::commit::Commit;", "crate::log::commit::Commit"),
        ("src/disk/map.rs", "fn f() { let x = crate::journal::core::now(); }", "crate::journal::core::now"),
        (
            "src/log/mod.rs",
            "use crate::{\n    id::Seq,\n    index::{live::LiveIndex, build},\n};",
            "crate::index",
        ),
        ("src/index/live.rs", "use super::super::options::Options;", "crate::options::Options"),
        ("src/options.rs", "pub use super::journal::Journal;", "crate::journal::Journal"),
        ("src/index/mod.rs", "mod inner { use super::super::journal as top; }", "crate::journal"),
        (
            "src/error.rs",
            "pub(in crate::error) fn f(_: r#crate::sync::X) {}\nuse crate::store::*;",
            "crate::store",
        ),
        ("src/id.rs", "impl From<crate::error::Error> for Seq {}", "crate::error::Error"),
        ("src/options.rs", "use crate::Journal;", "crate::Journal"),
        ("src/sync.rs", "/* a comment */ use /* another */ crate\n    :: id :: Seq;", "crate::id::Seq"),
    ];
    for (file, source, import) in planted {
        let found = check_imports(file, &lex(source));
        assert!(!found.is_empty(), "{source:?} in {file} went unnoticed");
        assert!(found.iter().all(|text| text.starts_with(file) && text.contains(import)), "{found:?}");
    }
    let line = check_imports("src/log/mod.rs", &lex("\n\nuse crate::{\n    journal::Journal,\n};"));
    assert_eq!(
        line,
        [
            "src/log/mod.rs:4: crate::journal::Journal: `journal` stands above `log`, and imports only point down"
        ]
    );
}

#[test]
fn imports_that_point_down_and_words_in_comments_and_strings_are_let_through() {
    let fine = [
        ("src/journal/mod.rs", "use crate::{error::Result, id::{Seq, Life}};\nuse crate::index::live;"),
        (
            "src/log/mod.rs",
            "/// See [`crate::journal`].\n// use crate::journal::Journal;\nuse self::commit::Commit;",
        ),
        (
            "src/log/rules.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    use super::super::commit;\n}",
        ),
        (
            "src/format/mod.rs",
            "/* use crate::log::x; /* nested */ use crate::log; */ const X: &str = \"crate::log::x\";",
        ),
        (
            "src/format/mod.rs",
            "const X: &str = r#\"a \" crate::log::x\"#; const Y: char = '\"'; fn f<'a>(_: &'a u8) {}",
        ),
        (
            "src/state/field.rs",
            "macro_rules! kind { () => { const _: $crate::Kind<()> = $crate::Kind::new(); } }",
        ),
        ("src/index/live.rs", "pub(crate) fn f() {}\nuse super::build::g;\npub(in crate::index) struct S;"),
    ];
    for (file, source) in fine {
        assert_eq!(check_imports(file, &lex(source)), [""; 0], "{source:?} in {file}");
    }
}

#[test]
fn a_planted_unsafe_sleep_print_or_path_is_found() {
    let bad = [
        "fn f() { unsafe { g() } }",
        "fn f() { std::thread::sleep(d) }",
        "fn f() { println!(\"{}\", 1) }",
        "use std::thread::sleep as nap;",
    ];
    for source in bad {
        assert_eq!(check_names("src/log/mod.rs", &lex(source)).len(), 1, "{source:?}");
    }
    assert_eq!(check_names(UNSAFE_FILE, &lex("fn f() { unsafe { g() } }")), [""; 0]);
    let fine = "#![allow(unsafe_code)] /// println!\n// unsafe\nfn asleep() -> &'static str { \"unsafe\" }";
    assert_eq!(check_names("src/log/mod.rs", &lex(fine)), [""; 0]);
    let home = format!("let path = \"/{}/somebody/esker\";", "home");
    assert_eq!(check_paths("src/a.rs", &home).len(), 1);
    assert_eq!(check_paths("src/a.rs", "see https://example.org/home/page and a/home/b"), [""; 0]);
}

/// A word or a sign of the source, with the line that it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// The tokens of a source, without comments, strings, characters and lifetimes.
fn lex(source: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = blank_bytes(rest).unwrap_or_else(|| {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            tokens.push(Token { text: rest[..length].to_owned(), line });
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of what stands at the start of `rest` and is no token: space, a comment, a literal.
fn blank_bytes(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_bytes(rest));
    }
    let is_string = |prefix: &&str| {
        rest.strip_prefix(*prefix).is_some_and(|rest| {
            let quoted = rest.trim_start_matches('#');
            quoted.starts_with('"') && (quoted.len() == rest.len() || prefix.ends_with('r'))
        })
    };
    if let Some(prefix) = ["br", "cr", "r", "b", "c", ""].into_iter().find(is_string) {
        return Some(prefix.len() + string_bytes(&rest[prefix.len()..], prefix.ends_with('r')));
    }
    (first == '\'').then(|| quote_bytes(rest))
}

fn block_comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string, which begins with its hashes or its quote.
fn string_bytes(rest: &str, raw: bool) -> usize {
    let open = rest.find('"').map_or(rest.len(), |at| at + 1);
    if raw {
        let end = format!("\"{}", &rest[..open - 1]);
        return rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len());
    }
    let mut escaped = false;
    let end = rest[open..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |at| open + at + 1)
}

/// The length of a character, or of a lifetime.
fn quote_bytes(rest: &str) -> usize {
    let body = &rest[1..];
    if let Some(escape) = body.strip_prefix('\\') {
        let skipped = escape.chars().next().map_or(0, char::len_utf8);
        return escape[skipped..].find('\'').map_or(rest.len(), |at| 2 + skipped + at + 1);
    }
    let character = body.chars().next().map_or(0, char::len_utf8);
    if body[character..].starts_with('\'') {
        return 1 + character + 1;
    }
    1 + body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len())
}

/// The module path of a file under `src`: `src/disk/map.rs` is `disk, map`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|line| line.contains(&module))
}

/// Every import of a file that the layers do not allow.
fn check_imports(file: &str, tokens: &[Token]) -> Vec<String> {
    let mut here = module_of(file);
    // The crate root names every module: it is the list of them.
    let Some(own) = here.first().cloned() else { return Vec::new() };
    let mut problems = Vec::new();
    let mut depth = 0usize;
    let mut inner: Vec<usize> = Vec::new();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    here.push(text(at - 1).to_owned());
                    inner.push(depth);
                }
            }
            "}" => {
                if inner.last() == Some(&depth) {
                    inner.pop();
                    here.pop();
                }
                depth = depth.saturating_sub(1);
            }
            "crate" | "self" | "super"
                if text(at + 1) == "::"
                    // In a macro `$crate` is a name for whoever uses that.
                    && (at == 0 || !matches!(text(at - 1), "::" | "$"))
                    && !is_visibility(tokens, at) =>
            {
                let mut named = Vec::new();
                at = names(tokens, at, Vec::new(), &mut named);
                for (path, line) in named {
                    if let Some(rule) = broken_rule(&own, &resolve(&here, &path)) {
                        let path = resolve(&here, &path).join("::");
                        problems.push(format!("{file}:{line}: crate::{path}: {rule}"));
                    }
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    problems
}

/// `pub(in crate::a)` says who may look in, and imports nothing.
fn is_visibility(tokens: &[Token], at: usize) -> bool {
    at >= 1 && tokens[at - 1].text == "in" && at >= 2 && tokens[at - 2].text == "("
}

/// Collects every path of a use tree, or the one path of an expression; answers where it ends.
fn names(
    tokens: &[Token],
    mut at: usize,
    mut path: Vec<String>,
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let before = at;
                    at = names(tokens, at, path.clone(), found);
                    while tokens.get(at).is_some_and(|token| token.text != "," && token.text != "}") {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                    assert!(at > before, "a use tree that does not end");
                }
                return at + 1;
            }
            word => path.push(word.to_owned()),
        }
        at += 1;
        let goes_on = tokens.get(at).is_some_and(|token| token.text == "::")
            && tokens.get(at + 1).is_some_and(|token| token.text != "<");
        if !goes_on {
            break;
        }
        at += 1;
    }
    found.push((path, line));
    at
}

/// The path from the crate root on.
fn resolve(here: &[String], path: &[String]) -> Vec<String> {
    let mut from: Vec<String> = here.to_vec();
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        match first.as_str() {
            "crate" => from.clear(),
            "super" => drop(from.pop()),
            "self" => {}
            _ => break,
        }
        rest = behind;
    }
    from.extend(rest.iter().cloned());
    from
}

fn broken_rule(own: &str, path: &[String]) -> Option<String> {
    let Some(target) = path.first() else { return Some("the crate root stands above everything".into()) };
    if target == own {
        return None;
    }
    match (layer_of(own), layer_of(target)) {
        (None, _) => Some(format!("`{own}` has no layer")),
        (_, None) => Some(format!("`{target}` is no layer: name the module that defines it")),
        (Some(from), Some(to)) if to > from => None,
        (Some(from), Some(to)) if to == from => {
            Some(format!("`{target}` and `{own}` are neighbours, which do not know each other"))
        }
        _ => Some(format!("`{target}` stands above `{own}`, and imports only point down")),
    }
}

/// Names that no file may use, and `unsafe` outside of its place.
fn check_names(file: &str, tokens: &[Token]) -> Vec<String> {
    let is_bad = |text: &str| BANNED_NAMES.contains(&text) || text == "unsafe" && file != UNSAFE_FILE;
    tokens
        .iter()
        .filter(|token| is_bad(&token.text))
        .map(|token| format!("{file}:{}: `{}` has no place here", token.line, token.text))
        .collect()
}

/// Absolute paths below somebody's home or workspace.
fn check_paths(file: &str, text: &str) -> Vec<String> {
    let places = ["home", "root", "Users", "work"].map(|place| format!("/{place}/"));
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"/.-_}~".contains(c))
    };
    let names_one = |line: &str| {
        places.iter().any(|place| line.match_indices(place.as_str()).any(|(at, _)| begins(line, at)))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| names_one(line))
        .map(|(at, line)| format!("{file}:{}: a path of one machine: {}", at + 1, line.trim()))
        .collect()
}

/// The files of `src`, by their path from the root of the crate.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = files_under(&root.join("src"), &|_| true);
    let sources: BTreeMap<String, String> = found
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            (file.strip_prefix(root).unwrap_or(&file).display().to_string(), text)
        })
        .collect();
    assert!(sources.len() > 20, "found only {} files under src", sources.len());
    sources
}

/// Build directories carry cargo's tag, wherever they are; what a fuzzer finds is not source.
fn is_made_by_a_build(root: &Path, path: &Path) -> bool {
    let found_by_fuzzers = ["artifacts", "corpus", "coverage"].map(|name| root.join("fuzz").join(name));
    let is_made = ["target", ".git"].iter().any(|name| path.ends_with(name));
    is_made || path.join("CACHEDIR.TAG").exists() || found_by_fuzzers.iter().any(|f| f == path)
}

fn files_under(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    for entry in entries.map(|entry| entry.unwrap_or_else(|e| panic!("{}: {e}", directory.display()))) {
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            _ if !wanted(&path) => {}
            Ok(kind) if kind.is_dir() => files.extend(files_under(&path, wanted)),
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    files
}

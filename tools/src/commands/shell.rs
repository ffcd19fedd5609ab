//! What the tool says about itself: what its errors mean, completions for shells, manual pages, the shape of its lines.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::Shell;
use serde_json::{Map, Value, json};

use crate::explain::{self, Explanation};
use crate::outcome::{Outcome, Usage};
use crate::output::{self, Output};
use crate::program::command_line;
use crate::schema;
use crate::store;

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The name of an error (`locked`, `NotAStore`, `no space left`) or of a finding (`damaged-segment`, `derived`), or a word
    /// that the tool shows (`torn`, `floor`, `held back`); all without it
    #[arg(value_name = "CODE|WORD")]
    code: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Write a page for each command into this directory [default: the page of the tool to stdout]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Schema {
    /// Only lines of this type (`entry`, `finding`)
    #[arg(long = "type", value_name = "NAME")]
    what: Option<String>,
}

pub(crate) fn explain(args: &Explain, output: &mut Output) -> Result<Outcome> {
    let pages: Vec<Explanation> = match &args.code {
        None => explain::all().chain(explain::words()).collect(),
        Some(code) => explain::find(code),
    };
    if let (Some(code), []) = (&args.code, pages.as_slice()) {
        return Err(unknown(code).into());
    }
    output.header("explain", &json!({}))?;
    if output.is_json() {
        pages.iter().try_for_each(|page| output.typed("explanation", page))?;
        output.typed("summary", &json!({ "shown": pages.len() }))?;
        return Ok(Outcome::Fine);
    }
    if args.code.is_some() {
        for (nth, page) in pages.iter().enumerate() {
            if nth > 0 {
                output.line("")?;
            }
            print(page, output)?;
        }
        return Ok(Outcome::Fine);
    }
    let rows = pages.iter().map(|page| [page.code, page.of, page.words.meaning].map(str::to_owned).to_vec());
    output.table(&["code", "of", "means"], rows.collect())?;
    Ok(Outcome::Fine)
}

/// One page.
fn print(page: &Explanation, output: &mut Output) -> Result<()> {
    let words = page.words;
    let mut pairs = vec![
        ("code", format!("{} ({})", page.code, page.of)),
        ("means", output::called(words.meaning).into_owned()),
        ("comes about", output::called(words.cause).into_owned()),
        ("lost", output::called(words.lost).into_owned()),
    ];
    pairs.retain(|(_, value)| !value.is_empty());
    let next = if page.of == "word" { "see" } else { "next" };
    pairs.extend(words.next.iter().map(|step| (next, output::called(step).into_owned())));
    Ok(output.pairs(&pairs)?)
}

fn unknown(code: &str) -> Usage {
    Usage(format!(
        "there is no error and no finding {code:?}, and no such word; `{} explain` lists all",
        output::name()
    ))
}

/// A script, a page and a schema are no lines.
fn refuse_json(command: &str, output: &Output) -> Result<()> {
    if output.is_json() {
        let what = format!("`{} {command}` prints no JSON lines: leave --json out", output::name());
        return Err(Usage(what).into());
    }
    Ok(())
}

pub(crate) fn completions(args: &Completions, output: &mut Output) -> Result<Outcome> {
    refuse_json("completions", output)?;
    let name = output::name();
    // The generator panics where it cannot write, and a closed pipe is no reason to.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(name), name, &mut script);
    output.lines().write_all(&script)?;
    Ok(Outcome::Fine)
}

pub(crate) fn man(args: &Man, output: &mut Output) -> Result<Outcome> {
    refuse_json("man", output)?;
    let mut tool = command_line(output::name()).disable_help_subcommand(true);
    tool.build();
    let Some(directory) = &args.output else {
        output.lines().write_all(&page(tool)?)?;
        return Ok(Outcome::Fine);
    };
    store::check_outside(&directory.join("page"))?;
    fs::create_dir_all(directory).with_context(|| format!("make the directory {}", directory.display()))?;
    let mut pages = Vec::new();
    collect(tool, &mut pages);
    for command in pages {
        // Of a command in a command the name has all the words, with hyphens: `esker-cursor-reset`.
        let name = command.get_display_name().unwrap_or(output::name()).to_owned();
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(command)?).with_context(|| format!("write the page {}", path.display()))?;
        output.tabs(&[path.display().to_string()])?;
    }
    Ok(Outcome::Fine)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}

/// A command and those in it.
fn collect(command: clap::Command, pages: &mut Vec<clap::Command>) {
    let inner: Vec<_> = command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned().collect();
    pages.push(command);
    inner.into_iter().for_each(|inner| collect(inner, pages));
}

pub(crate) fn schema(args: &Schema, output: &mut Output) -> Result<Outcome> {
    refuse_json("schema", output)?;
    let document = match &args.what {
        None => schema::document()?,
        Some(what) => {
            let mut line = schema::of(what)?.ok_or_else(|| {
                let there = schema::names().collect::<Vec<_>>().join(", ");
                Usage(format!("there are no lines of type {what:?}; there are: {there}"))
            })?;
            if let Some(fields) = line.as_object_mut() {
                let mut top = Map::new();
                top.insert("$schema".to_owned(), schema::DIALECT.into());
                top.append(fields);
                line = Value::Object(top);
            }
            line
        }
    };
    output.line(&serde_json::to_string_pretty(&document)?)?;
    Ok(Outcome::Fine)
}

//! A value that is derived from facts: asked for, followed, and followed under a name.
//!
//! ```sh
//! cargo run --release --example projection [DIRECTORY]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the person who runs it")]

use std::path::PathBuf;
use std::time::Instant;

use esker::{At, Durability, Facts, Fold, Freshness, Options, Result, Store};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Moved {
    In { cents: u64 },
    Out { cents: u64 },
    Noted(String),
}

const ACCOUNTS: Facts<Moved> = Facts::new("account");

/// What is in an account, and how often it moved.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
struct Balance {
    cents: i64,
    moves: u64,
}

struct Balances;

impl Fold for Balances {
    type State = Balance;
    type Event = Moved;
    const NAME: &'static str = "balance";
    const VERSION: u32 = 1;

    fn fold(balance: &mut Balance, moved: Moved, _: &At) {
        balance.cents += match moved {
            Moved::In { cents } => cents.cast_signed(),
            Moved::Out { cents } => -cents.cast_signed(),
            Moved::Noted(_) => return,
        };
        balance.moves += 1;
    }
}

const MOVES: u64 = 200_000;

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let path = given
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("projection-{}.esker", std::process::id())));
    let store = Store::over(Options::new().durability(Durability::Os).open(&path)?);
    println!("before:  {:?}", store.project::<Balances>(ACCOUNTS, "ada", Freshness::Consistent)?);
    for n in 0..MOVES {
        let moved = if n % 3 == 2 { Moved::Out { cents: 150 } } else { Moved::In { cents: 100 } };
        // The last append of the year waits for all of them.
        let _ = store.append_nowait(ACCOUNTS, "ada", &moved)?;
    }
    store.append(ACCOUNTS, "ada", &Moved::Noted("the end of the year".into()))?;

    // The whole history the first time, afterwards only what is new.
    let began = Instant::now();
    let first = store.project::<Balances>(ACCOUNTS, "ada", Freshness::Consistent)?;
    let whole = began.elapsed();
    store.append(ACCOUNTS, "ada", &Moved::In { cents: 1 })?;
    let began = Instant::now();
    let second = store.project::<Balances>(ACCOUNTS, "ada", Freshness::Consistent)?;
    println!("the whole history: {:?} in {whole:?}", first.value);
    println!("and one more:      {:?} in {:?}", second.value, began.elapsed());

    follow(&store)?;
    store.close()?;
    match given {
        Some(path) => println!("The store stays: {}", path.display()),
        None => std::fs::remove_dir_all(&path)
            .unwrap_or_else(|error| eprintln!("could not remove {}: {error}", path.display())),
    }
    Ok(())
}

/// One that follows while it is looked at, and one that goes on where it was.
fn follow(store: &Store) -> Result<()> {
    let before = store.project::<Balances>(ACCOUNTS, "ada", Freshness::Consistent)?;
    let wanted = before.value.unwrap_or_default().moves + 1000;
    let mut screen = store.watch_projection::<Balances>(ACCOUNTS, "ada")?;
    let stopper = screen.stopper();
    let shown = std::thread::scope(|scope| {
        let shown = scope.spawn(move || {
            let mut shown = 0;
            while let Some(newest) = screen.next()? {
                shown += 1;
                if newest.value.is_some_and(|balance| balance.moves == wanted) {
                    break;
                }
            }
            Ok::<_, esker::Error>(shown)
        });
        for _ in 0..1000 {
            store.append(ACCOUNTS, "ada", &Moved::In { cents: 1 })?;
        }
        let shown = shown.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stopper.stop();
        shown
    })?;
    println!("a screen was told of 1000 changes in {shown} steps");

    let mut mails = store.watch_projection_durable::<Balances>(ACCOUNTS, "ada", Some("mail to ada"))?;
    if let Some(newest) = mails.try_next()? {
        println!("mail to ada: {:?}, once, also when this runs again", newest.value);
    }
    mails.checkpoint()
}

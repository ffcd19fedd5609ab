//! A reactor that answers each order with an invoice, in a process that is killed at random, again
//! and again: in the end each order has one invoice, and each invoice one order.
//!
//! ```sh
//! cargo run --release --example reactor [DIRECTORY] [KILLS]
//! ```
//!
//! Nothing is counted in the process that reacts, which dies too often for that: the log is read
//! afterwards. Without a directory a fresh one is made under the system's temporary directory.
//! It stays there, to be looked at.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use esker::{Entry, Facts, Item, Out, Reaction, Start, Store, SubscribeOptions};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    cents: u64,
}

#[derive(Serialize, Deserialize)]
struct Invoice {
    number: u64,
    cents: u64,
}

const ORDERS: Facts<Order> = Facts::new("order");
const INVOICES: Facts<Invoice> = Facts::new("invoice");

/// This program, told to be the one that is killed.
const CHILD: &str = "--react-until-killed";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_ref().is_some_and(|first| first == CHILD) {
        let path = arguments.next().ok_or("a directory")?;
        return order_and_react(path.as_ref());
    }
    let path = first.map_or_else(fresh_path, PathBuf::from);
    let kills = match arguments.next() {
        Some(kills) => kills.into_string().map_err(|_| "KILLS is a number")?.parse()?,
        None => 100,
    };
    let mut chance = Chance(u64::from(std::process::id()) | 1);
    for kill in 1..=kills {
        let reacted = run_and_kill(&path, &mut chance)?;
        if kill % 20 == 0 {
            println!("{kill:>4} kills; the last process had seen {reacted} invoices");
        }
    }
    count(&path)
}

/// What the child does: appends orders, and has a reactor answer them.
fn order_and_react(path: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    let _reactor = store.react("invoicing", store.region(ORDERS)?, invoice)?;
    let mut invoices = store.journal().subscribe(store.region(INVOICES)?)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0_u64.. {
                let order = Order { item: "lamp".into(), cents: 990 + n };
                store.append(ORDERS, format!("{}", n % 7), &order).expect("an append");
            }
        });
        while invoices.next()?.is_some() {
            // Whoever listens may be gone, and we with it.
            std::io::stdout().write_all(b"invoice\n")?;
        }
        Ok(())
    })
}

/// Two facts for each order, and how far the orders were read: one write.
fn invoice(entry: Entry<'_>, out: &mut Out<'_>) -> Reaction {
    let Some(order) = out.fact(ORDERS, entry)? else { return Ok(()) };
    let cents = order.value()?.cents;
    let invoice = Invoice { number: order.seq().get(), cents };
    out.append(INVOICES, entry.key(), &invoice)?;
    Ok(())
}

/// Lets a process work until some invoices were seen and a moment longer, and kills it.
fn run_and_kill(path: &Path, chance: &mut Chance) -> Result<u64, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("a pipe")?).lines();
    let wanted = chance.below(40);
    let mut heard = 0;
    while heard < wanted {
        match said.next() {
            Some(line) => _ = line?,
            None => return Err(format!("the child ended by itself: {:?}", child.wait()?).into()),
        }
        heard += 1;
    }
    std::thread::sleep(Duration::from_micros(chance.below(5000)));
    child.kill()?;
    child.wait()?;
    Ok(heard + said.map_while(Result::ok).count() as u64)
}

/// Lets the reactor finish, and reads the log.
fn count(path: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    let orders: Vec<u64> =
        store.view().facts(ORDERS).map(|order| Ok(order?.seq().get())).collect::<esker::Result<_>>()?;
    let reactor = store.react("invoicing", store.region(ORDERS)?, invoice)?;
    let all = SubscribeOptions::new().from(Start::Oldest);
    let mut invoices = store.journal().subscribe_with(store.region(INVOICES)?, all)?;
    let mut by_order: BTreeMap<u64, u64> = orders.iter().map(|seq| (*seq, 0)).collect();
    for _ in 0..orders.len() {
        let Some(Item::Entry(entry)) = invoices.next_timeout(Duration::from_secs(60))? else { break };
        let cause = entry.causation().ok_or("every invoice has a cause")?.seq.get();
        *by_order.get_mut(&cause).ok_or("an invoice without an order")? += 1;
    }
    reactor.stop();
    reactor.join()?;
    let more = invoices.advance()?;
    println!("{} orders, {} invoices", orders.len(), by_order.values().sum::<u64>());
    let wrong = by_order.values().filter(|count| **count != 1).count();
    if wrong > 0 || more {
        return Err(format!("{wrong} orders have no invoice, or two").into());
    }
    println!("Each order has one invoice, and each invoice one order.");
    println!("The store stays: {}", path.display());
    store.close()?;
    Ok(())
}

fn fresh_path() -> PathBuf {
    std::env::temp_dir().join(format!("reactor-{}.esker", std::process::id()))
}

/// Enough chance to be killed by.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

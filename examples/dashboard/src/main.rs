//! Live state on a page: the processes of this machine, in every browser that looks.
//!
//! ```sh
//! cargo run --release --manifest-path examples/dashboard/Cargo.toml -- [DIRECTORY] [--port N]
//! ```
//!
//! ```text
//!   /proc ── each second, in an epoch ──► store ── a subscription a browser ──► server-sent events
//! ```
//!
//! **Writing.** The source `proc` states once a second all the processes that there are. The store finds out what of
//! that is news; a process that was not named again has ended, and is deleted with the end of the epoch.
//!
//! **Reading.** Each browser has a subscription of its own, in a thread of its own, that reads the mapped log: it is told
//! the rows that there are, and then each change. Where there is a place to go on from, an event carries the
//! subscription's token as its `id`, which a browser hands back when it connects again (`Last-Event-ID`): it goes on where
//! it was, also after a restart of this program, and a page that slept through an hour is told what that hour came to.
//!
//! **A browser that is too slow** is told what it missed entity by entity, once: [`Behind::Resume`]. `Full` would send
//! it the whole table again, though most of it has not changed, and `LiveOnly`, which is for a ticker of events, would leave
//! processes on the page whose end it passed over. Where compaction has dropped what would tell, all the rows
//! come again by themselves, and `reset` says why.
//!
//! Kill it whenever you like: what was flushed is there, and the next start takes back what is not true any more.

mod processes;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use esker::{
    AutoCompact, Behind, Change, ChangeKind, Kind, Marker, Options, StateItem, Store, Subscription, Token,
};
use serde_json::{Value, json};
use tiny_http::{Header, Request, Response, Server};

use processes::{Process, Processes};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const PROCESS: Kind<Process> = Kind::new("process");

fn main() -> Outcome {
    let (path, port) = arguments()?;
    // Rows change for ever: what they were is dropped now and then, and the directory stays small.
    let options = Options::new().auto_compact(AutoCompact::every(Duration::from_secs(60)));
    let store = Store::over(options.open(path)?);
    let server = Server::http(("127.0.0.1", port))?;
    println!("http://{}/", server.server_addr());
    thread::spawn({
        let store = store.clone();
        move || serve(&store, &server)
    });
    state(&store)
}

fn arguments() -> Result<(PathBuf, u16), Box<dyn Error + Send + Sync>> {
    let (mut path, mut port) = (std::env::temp_dir().join("dashboard.esker"), 8080);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--port" {
            let given = arguments.next().ok_or("--port needs a number")?;
            port = given.to_string_lossy().parse()?;
        } else {
            path = argument.into();
        }
    }
    Ok((path, port))
}

/// States again and again what there is.
fn state(store: &Store) -> Outcome {
    let proc = store.source("proc")?;
    let mut processes = Processes::new();
    loop {
        let epoch = proc.epoch(PROCESS)?;
        for (pid, process) in processes.look()? {
            proc.assert(PROCESS, pid, &process)?;
        }
        epoch.commit()?;
        thread::sleep(Duration::from_secs(1));
    }
}

fn serve(store: &Store, server: &Server) {
    for request in server.incoming_requests() {
        let store = store.clone();
        thread::spawn(move || {
            // That a browser has left is no news.
            let _ = answer(&store, request);
        });
    }
}

fn answer(store: &Store, request: Request) -> Outcome {
    match request.url() {
        "/" => {
            let html = Header::from_bytes("Content-Type", "text/html; charset=utf-8");
            let page = Response::from_string(include_str!("page.html"));
            request.respond(html.into_iter().fold(page, Response::with_header))?;
        }
        "/events" => stream(store, request)?,
        _ => request.respond(Response::from_string("not here\n").with_status_code(404))?,
    }
    Ok(())
}

/// Begins where the browser was, or anew, and goes on until it leaves.
fn stream(store: &Store, request: Request) -> Outcome {
    let seen = request.headers().iter().find(|header| header.field.equiv("Last-Event-ID"));
    let seen = seen.and_then(|header| header.value.as_str().parse::<Token>().ok());
    let mut follow = store.subscription(PROCESS).behind(Behind::Resume);
    if let Some(token) = seen {
        follow = follow.resume(token);
    }
    let mut changes = follow.start()?;
    let mut out = request.into_writer();
    write!(out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n")?;
    write!(out, "Connection: close\r\n\r\nretry: 1000\n\n")?;
    if let Err(error) = tell(&mut changes, &mut out) {
        write!(out, "event: failed\ndata: {}\n\n", json!({ "why": error.to_string() }))?;
        out.flush()?;
    }
    Ok(())
}

fn tell(changes: &mut Subscription<Process>, out: &mut impl Write) -> Outcome {
    /// So often it is found out who has left, though nothing happens.
    const HEARTBEAT: Duration = Duration::from_secs(15);
    loop {
        if !changes.advance()? {
            // All that there is now is on its way before this waits for more.
            out.flush()?;
            if changes.next_timeout(HEARTBEAT)?.is_none() {
                write!(out, ":\n\n")?;
                continue;
            }
        }
        let (event, data) = match changes.item() {
            StateItem::Change(change) => told(&change)?,
            StateItem::Marker(Marker::BootstrapBegin { because, .. }) => {
                ("reset", json!({ "because": because.map(|why| format!("{why:?}")) }))
            }
            StateItem::Marker(Marker::BootstrapComplete { .. }) => ("complete", json!({})),
            // Only with `LiveOnly`: then the page does not show what there is.
            StateItem::Marker(Marker::Missed { count, .. }) => ("missed", json!({ "count": count })),
            _ => continue,
        };
        writeln!(out, "event: {event}\ndata: {data}")?;
        match changes.token()? {
            Some(token) => writeln!(out, "id: {token}")?,
            // Who has begun anew must not go on from where it was before, with half a table.
            None if event == "reset" => writeln!(out, "id:")?,
            None => {}
        }
        writeln!(out)?;
    }
}

/// A change, as an event.
fn told(change: &Change<'_, Process>) -> esker::Result<(&'static str, Value)> {
    let key = String::from_utf8_lossy(change.key());
    if change.kind() == ChangeKind::Deleted {
        return Ok(("delete", json!({ "key": key, "version": change.version(), "lag": lag(change) })));
    }
    let data = json!({
        "key": key,
        "kind": format!("{:?}", change.kind()),
        "version": change.version(),
        "changed": change.changed_fields().collect::<Vec<_>>(),
        "row": change.value()?,
        "lag": lag(change),
    });
    Ok(("change", data))
}

/// For how long it has been true, in milliseconds.
fn lag(change: &Change<'_, Process>) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(now.as_nanos()).unwrap_or(i64::MAX) - change.time()).max(0) / 1_000_000
}

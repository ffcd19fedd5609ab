//! The program, as a browser sees it: a page, and a stream of events that goes on where it was left.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The program on a port of its own, until it is killed.
struct Dashboard {
    child: Child,
    address: String,
}

impl Dashboard {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dashboard"))
            .arg(directory)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        Self { address: address.unwrap_or_else(|| panic!("no address: {line:?}")).to_owned(), child }
    }

    fn request(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        // A stream that says nothing any more fails the test instead of hanging.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address).unwrap();
        BufReader::new(stream)
    }

    fn get(&self, path: &str) -> String {
        let mut text = String::new();
        self.request(path, "Connection: close\r\n").read_to_string(&mut text).unwrap();
        text
    }

    /// The stream of events, from where `last` was seen on.
    fn events(&self, last: &str) -> Events {
        let header = if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
        let mut lines = self.request("/events", &header);
        let mut head = String::new();
        while lines.read_line(&mut head).unwrap() > 2 {}
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nContent-Type: text/event-stream\r\n")
        );
        Events { lines, id: last.to_owned() }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a browser makes of the stream.
struct Events {
    lines: BufReader<TcpStream>,
    /// What it would send as `Last-Event-ID`.
    id: String,
}

impl Events {
    fn next(&mut self) -> (String, Value) {
        let (mut event, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
            match line.trim_end_matches('\n').split_once(':') {
                Some(("event", name)) => event = name.trim_start().to_owned(),
                Some(("data", text)) => data.push_str(text.trim_start()),
                Some(("id", id)) => self.id = id.trim_start().to_owned(),
                None if !data.is_empty() => return (event, serde_json::from_str(&data).unwrap()),
                _ => {}
            }
        }
    }

    /// Everything up to the event that is asked for, and that one.
    fn until(&mut self, is_it: impl Fn(&str, &Value) -> bool) -> Vec<(String, Value)> {
        let mut seen = Vec::new();
        loop {
            let (event, data) = self.next();
            let found = is_it(&event, &data);
            seen.push((event, data));
            if found {
                return seen;
            }
        }
    }

    fn until_complete(&mut self) -> Vec<(String, Value)> {
        self.until(|event, _| event == "complete")
    }

    fn until_told_of(&mut self, wanted: &str, process: &Child) -> Vec<(String, Value)> {
        let key = process.id().to_string();
        self.until(|event, data| event == wanted && data["key"] == *key)
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

fn is_only_changes(events: &[(String, Value)]) -> bool {
    events.iter().all(|(event, data)| {
        event == "delete"
            || event == "change" && data["kind"] != "Bootstrap" && data["changed"] != Value::Null
    })
}

#[test]
fn a_page_is_served_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(directory.path());
    let page = dashboard.get("/");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("Content-Type: text/html"));
    assert!(page.contains("new EventSource(\"events\")"));
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "it needs nobody else");
    assert!(dashboard.get("/etc").starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_browser_is_told_the_rows_and_then_what_begins_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(directory.path());
    let mut events = dashboard.events("");
    let (event, data) = events.next();
    assert_eq!((event.as_str(), &data["because"]), ("reset", &Value::Null));
    assert_eq!(events.id, "", "half a table is no place to go on from");
    events.until_complete();
    assert_ne!(events.id, "");

    let child = sleeper();
    // Between fork and exec it has the name of this test.
    let key = child.id().to_string();
    let told = events.until(|_, data| data["key"] == *key && data["row"]["name"] == "sleep");
    assert!(is_only_changes(&told));
    end(child);
    let told = events.until(|event, data| event == "delete" && data["key"] == *key);
    assert!(is_only_changes(&told));

    // Who comes now is told what is there, and of what is gone nothing.
    let mut later = dashboard.events("");
    let rows = later.until_complete();
    let own = std::process::id().to_string();
    assert!(rows.iter().any(|(_, data)| data["key"] == *own && data["kind"] == "Bootstrap"));
    assert!(rows.iter().all(|(_, data)| data["key"] != *key));
}

#[test]
fn a_browser_that_comes_back_is_told_only_what_has_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (stays, ends) = (sleeper(), sleeper());
    let begins;
    let last = {
        let dashboard = Dashboard::start(directory.path());
        let mut events = dashboard.events("");
        // Both are there, be it from the beginning or a moment later.
        let mut missing = vec![stays.id().to_string(), ends.id().to_string()];
        while !missing.is_empty() {
            let (_, data) = events.next();
            missing.retain(|key| data["key"] != **key);
        }
        while events.id.is_empty() {
            events.next();
        }
        let last = events.id.clone();
        drop(events);
        end(ends);
        begins = sleeper();
        let mut again = dashboard.events(&last);
        assert!(is_only_changes(&again.until_told_of("change", &begins)));
        again.id
    };
    // The program was killed, and starts again: the place means the same.
    end(begins);
    let dashboard = Dashboard::start(directory.path());
    let mut again = dashboard.events(&last);
    let child = sleeper();
    let told = again.until_told_of("change", &child);
    assert!(is_only_changes(&told));
    let unchanged = stays.id().to_string();
    assert!(told.iter().all(|(_, data)| data["key"] != *unchanged || data["version"] != 1));
    end(child);
    end(stays);
}

#[test]
fn a_place_in_another_store_begins_anew_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(directory.path());
    let (event, data) = dashboard.events("00112233445566778899aabbccddeeff:1:1").next();
    assert_eq!((event.as_str(), &data["because"]), ("reset", &Value::from("OtherStore")));
    let (event, data) = dashboard.events("no token").next();
    assert_eq!((event.as_str(), &data["because"]), ("reset", &Value::Null));
}

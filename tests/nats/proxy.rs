//! What lies between a client and its server: it can keep back what the server answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Hands on what a client sends at once, and what the server sends as it is told.
pub(crate) struct Proxy {
    port: u16,
    rules: Arc<(Mutex<Rules>, Condvar)>,
}

#[derive(Default)]
struct Rules {
    holds: bool,
    delay: Duration,
    /// What the client sends when answers begin to be kept back.
    hold_behind: Option<&'static [u8]>,
    /// How often something came from the server.
    answers: u64,
}

impl Proxy {
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules: Arc<(Mutex<Rules>, Condvar)> = Arc::default();
        let of_thread = Arc::clone(&rules);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let rules = Arc::clone(&of_thread);
                std::thread::spawn(move || hand_on(from, to, |sent| see(&rules, sent)));
                let rules = Arc::clone(&of_thread);
                std::thread::spawn(move || hand_on(server, client, |_| keep_back(&rules)));
            }
        });
        Self { port, rules }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Keeps back what the server answers, or lets it go.
    pub(crate) fn hold(&self, holds: bool) {
        self.rules.0.lock().unwrap().holds = holds;
        self.rules.1.notify_all();
    }

    /// Keeps back what the server answers from the moment at which the client sends this.
    pub(crate) fn hold_behind(&self, sent: &'static [u8]) {
        self.rules.0.lock().unwrap().hold_behind = Some(sent);
    }

    pub(crate) fn holds(&self) -> bool {
        self.rules.0.lock().unwrap().holds
    }

    /// How often something has come from the server.
    pub(crate) fn answers(&self) -> u64 {
        self.rules.0.lock().unwrap().answers
    }

    /// Everything that the server answers takes so long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.rules.0.lock().unwrap().delay = delay;
    }
}

/// Of what the client sends.
fn see((rules, _): &(Mutex<Rules>, Condvar), sent: &[u8]) {
    let mut rules = rules.lock().unwrap();
    let is_it = |what: &&[u8]| sent.windows(what.len()).any(|window| window == *what);
    if rules.hold_behind.filter(is_it).is_some() {
        (rules.holds, rules.hold_behind) = (true, None);
    }
}

/// Of what the server answers.
fn keep_back((rules, changed): &(Mutex<Rules>, Condvar)) {
    let mut rules = changed.wait_while(rules.lock().unwrap(), |rules| rules.holds).unwrap();
    rules.answers += 1;
    let delay = rules.delay;
    drop(rules);
    std::thread::sleep(delay);
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        before(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

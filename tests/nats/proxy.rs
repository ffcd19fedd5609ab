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

#[derive(Clone, Copy, Default)]
struct Rules {
    holds: bool,
    delay: Duration,
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
                std::thread::spawn(move || hand_on(from, to, None));
                let rules = Arc::clone(&of_thread);
                std::thread::spawn(move || hand_on(server, client, Some(&rules)));
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

    /// Everything that the server answers takes so long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.rules.0.lock().unwrap().delay = delay;
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, rules: Option<&(Mutex<Rules>, Condvar)>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Some((rules, changed)) = rules {
            let rules = changed.wait_while(rules.lock().unwrap(), |rules| rules.holds).unwrap();
            let delay = rules.delay;
            drop(rules);
            std::thread::sleep(delay);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

//! How qemu is told what to do: a line of JSON for each command, and one for each answer or event.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::qemu::PATIENCE;

pub(crate) struct Qmp {
    input: ChildStdin,
    /// Its lines come from a thread that ends with them: a read of a pipe has no limit of time.
    lines: Receiver<String>,
}

impl Qmp {
    /// Its greeting is there when all its devices are.
    pub(crate) fn greet(input: ChildStdin, output: ChildStdout) -> Result<Self, String> {
        let (teller, lines) = channel();
        let output = BufReader::new(output).lines();
        std::thread::spawn(move || hand_on(output, &teller));
        let mut qmp = Self { input, lines };
        qmp.until("\"QMP\"")?;
        qmp.tell("qmp_capabilities", "{}")?;
        Ok(qmp)
    }

    /// Waits for the answer.
    pub(crate) fn tell(&mut self, command: &str, arguments: &str) -> Result<(), String> {
        let line = format!("{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n");
        self.input.write_all(line.as_bytes()).map_err(|error| format!("{command}: {error}"))?;
        self.until("\"return\"").map_err(|error| format!("{command}: {error}"))
    }

    /// A state of the machine goes to a file, or comes from it: `migrate` or `migrate-incoming`. Memory has a file of its own.
    pub(crate) fn migrate(&mut self, command: &str, uri: &str) -> Result<(), String> {
        let capabilities = ["events", "x-ignore-shared"]
            .map(|name| format!("{{\"capability\":\"{name}\",\"state\":true}}"))
            .join(",");
        self.tell("migrate-set-capabilities", &format!("{{\"capabilities\":[{capabilities}]}}"))?;
        self.tell(command, &format!("{{\"uri\":\"{uri}\"}}"))?;
        self.until("\"status\": \"completed\"")
    }

    /// Reads up to a line with this in it.
    fn until(&mut self, wanted: &str) -> Result<(), String> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("qemu did not say {wanted} in {} s", PATIENCE.as_secs()),
                RecvTimeoutError::Disconnected => "qemu has ended".to_owned(),
            })?;
            if line.contains("\"error\"") || line.contains("\"status\": \"failed\"") {
                return Err(line);
            }
            if line.contains(wanted) {
                return Ok(());
            }
        }
    }
}

fn hand_on(lines: Lines<BufReader<ChildStdout>>, to: &Sender<String>) {
    for line in lines.map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

//! How qemu is told what to do: a line of JSON for each command, and one for each answer or event.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

pub(crate) struct Qmp {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qmp {
    /// Its greeting is there when all its devices are.
    pub(crate) fn greet(input: ChildStdin, output: ChildStdout) -> Result<Self, String> {
        let mut qmp = Self { input, output: BufReader::new(output) };
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
            let mut line = String::new();
            let length = self.output.read_line(&mut line).map_err(|error| error.to_string())?;
            if length == 0 || line.contains("\"error\"") || line.contains("\"status\": \"failed\"") {
                return Err(if length == 0 { "qemu has ended".to_owned() } else { line });
            }
            if line.contains(wanted) {
                return Ok(());
            }
        }
    }
}

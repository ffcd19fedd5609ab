//! What runs in processes of their own: whoever writes a store, and whoever judges what is left of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::blocks::device::Place;
use crate::blocks::judge::judge;
use crate::blocks::known::Known;
use crate::blocks::workload::{Life, Marks, live};

const ROLE: &str = "ESKER_FILES_ROLE";
const LIFE: &str = "ESKER_FILES_LIFE";
/// How a line begins that a child says to its parent: the harness of tests writes others.
const SAID: &str = "=> ";

fn say(line: &str) {
    // The harness writes no newline before the first line.
    std::io::stdout().write_all(format!("\n{SAID}{}\n", line.replace('\n', " ")).as_bytes()).unwrap();
}

/// What this process is to do, if it is a child.
pub(crate) fn play() {
    let (Ok(role), Some(place)) = (std::env::var(ROLE), Place::told()) else { return };
    match role.as_str() {
        "lives" => {
            let told = std::env::var(LIFE).unwrap();
            let numbers: Vec<u64> = told.split(' ').map(|number| number.parse().unwrap()).collect();
            let [seed, batches, is_lazy, is_closed] = numbers[..] else { panic!("no life: {told}") };
            let batches = usize::try_from(batches).unwrap();
            let life = Life { seed, batches, is_lazy: is_lazy == 1, is_closed: is_closed == 1 };
            live(&place.store(), &place.marks, life).unwrap();
        }
        "judges" => judge_all(&place),
        other => panic!("no role {other}"),
    }
}

/// What is known stands in a line of the input; the verdict is a line of the output.
fn judge_all(place: &Place) {
    for line in std::io::stdin().lines() {
        let known = Known::parse(&line.unwrap());
        let marks = Marks::open(&place.marks);
        let judged = std::panic::catch_unwind(|| judge(&place.store(), &marks, &known));
        say(&match judged {
            Ok(Ok(class)) => format!("right {class}"),
            Ok(Err(what)) => format!("wrong {what}"),
            Err(_) => "wrong it panicked".to_owned(),
        });
    }
}

fn prepare(mut command: Command, role: &str, place: &Place) -> Command {
    command.args(["--exact", "role_of_a_child_process", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    place.tell(&mut command);
    command
}

/// A process that writes a store; it ends well, or by an abort.
pub(crate) fn lives(command: Command, place: &Place, life: Life) -> std::process::Output {
    let Life { seed, batches, is_lazy, is_closed } = life;
    let told = format!("{seed} {batches} {} {}", u8::from(is_lazy), u8::from(is_closed));
    prepare(command, "lives", place).env(LIFE, told).stdin(Stdio::null()).output().unwrap()
}

/// A process that judges one state after the other; another takes its place if it dies.
#[derive(Debug)]
pub(crate) struct Judge<F: Fn() -> Command> {
    place: Place,
    command: F,
    running: Option<(Child, ChildStdin, std::io::Lines<BufReader<ChildStdout>>)>,
}

impl<F: Fn() -> Command> Judge<F> {
    pub(crate) const fn new(place: Place, command: F) -> Self {
        Self { place, command, running: None }
    }

    pub(crate) fn judge(&mut self, known: &Known) -> String {
        let (_, input, output) = self.running.get_or_insert_with(|| {
            let mut command = prepare((self.command)(), "judges", &self.place);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            (child, input, BufReader::new(output).lines())
        });
        input.write_all(format!("{known}\n").as_bytes()).unwrap();
        let said =
            output.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix(SAID)?.to_owned()));
        said.unwrap_or_else(|| {
            let status = self.stop();
            format!("wrong the judge ended: {status}")
        })
    }

    pub(crate) fn stop(&mut self) -> String {
        let Some((mut child, input, output)) = self.running.take() else { return String::new() };
        drop(input);
        // The harness of tests has a last word, and minds if nobody hears it.
        output.for_each(drop);
        child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl<F: Fn() -> Command> Drop for Judge<F> {
    fn drop(&mut self) {
        self.stop();
    }
}

//! What runs in processes of their own, which are this same program: who writes a store, and who judges one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::device::Place;
use super::judge::judge;
use super::known::Known;
use super::workload::{Life, Marks, live};

const ROLE: &str = "ESKER_BLOCKS_ROLE";
const LIFE: &str = "ESKER_BLOCKS_LIFE";
/// How a line begins that a child says to its parent: the harness of tests writes others.
pub(crate) const SAID: &str = "=> ";

pub(crate) fn say(line: &str) {
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
        "judges" => judge_mounted(&place),
        "judges_as_it_stands" => judge_as_it_stands(&place),
        other => panic!("no role {other}"),
    }
}

/// What is known stands in a line of the input; the verdict is a line of the output. What is left is mounted for each.
fn judge_mounted(place: &Place) {
    let marks = Marks::open(&place.marks);
    for line in std::io::stdin().lines() {
        let known = Known::parse(&line.unwrap());
        if let Err(error) = place.mount() {
            say(&format!("unmountable {error}"));
            continue;
        }
        let said = verdict(place, &marks, &known);
        let unmounted = place.unmount();
        say(&said);
        unmounted.unwrap();
    }
}

/// The same of a directory that stays, in which somebody puts what is left.
fn judge_as_it_stands(place: &Place) {
    for line in std::io::stdin().lines() {
        let known = Known::parse(&line.unwrap());
        say(&verdict(place, &Marks::open(&place.marks), &known));
    }
}

/// `right` with the kind of opening, or `wrong` with what is wrong.
pub(crate) fn verdict(place: &Place, marks: &Marks, known: &Known) -> String {
    match std::panic::catch_unwind(|| judge(&place.store(), marks, known)) {
        Ok(Ok(class)) => format!("right {class}"),
        Ok(Err(what)) => format!("wrong {what}"),
        Err(_) => "wrong it panicked".to_owned(),
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn child(mut command: Command, role: &str, place: &Place) -> Command {
    command.args(["--exact", "role_of_a_child_process", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    place.tell(&mut command);
    command
}

/// A process lives so; answers what it said where it did not end as was meant.
pub(crate) fn live_apart(place: &Place, life: Life) -> Result<(), String> {
    live_by(this_program(), place, life)
}

/// The same, of a command that starts this program, and ends as that does.
pub(crate) fn live_by(command: Command, place: &Place, life: Life) -> Result<(), String> {
    let Life { seed, batches, is_lazy, is_closed } = life;
    let told = format!("{seed} {batches} {} {}", u8::from(is_lazy), u8::from(is_closed));
    let output = child(command, "lives", place).env(LIFE, &told).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // A signal that the store ran into is not the abort that was meant.
    let is_as_meant =
        if is_closed { output.status.success() } else { output.status.signal() == Some(libc::SIGABRT) };
    if is_as_meant && !said.contains("panicked") {
        return Ok(());
    }
    Err(format!("{told}: {}: {said}", output.status))
}

/// A process that judges one state after the other; another takes its place if it dies.
pub(crate) struct Judge {
    place: Place,
    role: &'static str,
    command: Box<dyn Fn() -> Command + Send>,
    running: Option<(Child, ChildStdin, std::io::Lines<BufReader<ChildStdout>>)>,
}

impl Judge {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, role: "judges", command: Box::new(this_program), running: None }
    }

    /// One of what stands in a directory, started by such a command.
    pub(crate) fn as_it_stands(place: Place, command: impl Fn() -> Command + Send + 'static) -> Self {
        Self { place, role: "judges_as_it_stands", command: Box::new(command), running: None }
    }

    pub(crate) fn judge(&mut self, known: &Known) -> String {
        let (_, input, output) = self.running.get_or_insert_with(|| {
            let mut command = child((self.command)(), self.role, &self.place);
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

    fn stop(&mut self) -> String {
        let Some((mut child, input, output)) = self.running.take() else { return String::new() };
        drop(input);
        // The harness of tests has a last word, and minds if nobody hears it.
        output.for_each(drop);
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        // Where nothing is mounted there is nothing to take down.
        if self.role == "judges" {
            _ = self.place.unmount();
        }
        status
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.stop();
    }
}

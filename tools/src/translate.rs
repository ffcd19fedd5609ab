//! A program of the user's that says what payloads mean: one line of JSON in for each entry, one line of text out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use esker::dump::{Dump, FrameInfo, base64};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::PayloadOption;
use crate::program::files_of_others;

/// So long a program may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// So long a line may be.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What the program has to do, for whoever wrote one that does not.
const CONTRACT: &str = "it is given one line of JSON for each entry, and has to write one line of text for each at once (flushed)";

/// How a command shows payloads.
pub(crate) struct Payloads {
    translator: Option<Translator>,
}

impl Payloads {
    pub(crate) fn of(option: &PayloadOption) -> Result<Self> {
        let translator = option.translate.as_deref().map(|command| Translator::start(command, PATIENCE));
        Ok(Self { translator: translator.transpose()? })
    }

    /// The payload as the program says it; `None`: there is no program, or nothing to say.
    pub(crate) fn translated(&mut self, frame: &FrameInfo, dump: &Dump) -> Result<Option<String>> {
        let Some(translator) = &mut self.translator else { return Ok(None) };
        if frame.is_system() || frame.payload.is_empty() {
            return Ok(None);
        }
        let line = serde_json::to_value(dump.fields(frame))?;
        let what = format!("entry {} ({})", frame.seq, dump.entity(frame));
        translator.translate(&with_bytes(line, &frame.payload), &what).map(Some)
    }

    /// The same of a payload that stands in no entry, and of what is known of it.
    pub(crate) fn of_copy(
        &mut self,
        line: &impl Serialize,
        payload: &[u8],
        what: &str,
    ) -> Result<Option<String>> {
        let Some(translator) = self.translator.as_mut().filter(|_| !payload.is_empty()) else {
            return Ok(None);
        };
        translator.translate(&with_bytes(serde_json::to_value(line)?, payload), what).map(Some)
    }
}

/// A payload that was decoded here says nothing of its bytes.
fn with_bytes(mut line: Value, payload: &[u8]) -> Value {
    if let Some(fields) = line.as_object_mut() {
        fields.insert("payload_base64".to_owned(), json!(base64(payload)));
    }
    line
}

/// The program, which runs as long as the command does.
struct Translator {
    command: String,
    patience: Duration,
    child: Child,
    /// A program that reads nothing must not stop who writes.
    entries: Sender<Vec<u8>>,
    answers: Receiver<io::Result<Option<Vec<u8>>>>,
}

impl Translator {
    fn start(command: &str, patience: Duration) -> Result<Self> {
        let mut shell = Command::new("sh");
        match files_of_others() {
            Some(files) => {
                let limited = "ulimit -S -n \"$1\"; exec sh -c \"$2\"";
                shell.args(["-c", limited, "sh", &files.to_string(), command])
            }
            None => shell.args(["-c", command]),
        };
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = shell.with_context(|| format!("start the translator {command:?} with `sh -c`"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(anyhow!("start the translator {command:?}: it has no pipes"));
        };
        let (entries, to_write) = channel();
        let (answered, answers) = channel();
        thread::spawn(move || write_all(stdin, &to_write));
        thread::spawn(move || read_lines(stdout, &answered));
        Ok(Self { command: command.to_owned(), patience, child, entries, answers })
    }

    fn translate(&mut self, entry: &Value, what: &str) -> Result<String> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        // Where nobody takes it any more, the answer that does not come tells why.
        let _ = self.entries.send(line);
        let failed = |why: String| anyhow!("translate {what} with {:?}: {why}; {CONTRACT}", self.command);
        match self.answers.recv_timeout(self.patience) {
            Ok(Ok(Some(line))) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(RecvTimeoutError::Timeout) => {
                Err(failed(format!("it said nothing for {} s", self.patience.as_secs_f32())))
            }
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => {
                let how = match self.child.try_wait() {
                    Ok(Some(status)) => format!("it ended ({status})"),
                    _ => "it closed its output".to_owned(),
                };
                Err(failed(format!("{how} before it answered")))
            }
        }
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        // All that was asked is answered, or nobody waits for it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_all(mut stdin: ChildStdin, lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, answers: &Sender<io::Result<Option<Vec<u8>>>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let line = next_line(&mut stdout);
        let is_last = !matches!(line, Ok(Some(_)));
        if answers.send(line).is_err() || is_last {
            return;
        }
    }
}

/// A line without its end; `None`: there is no more.
fn next_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == LINE_BYTES_MAX {
        return Err(io::Error::other(format!("it wrote a line of more than {LINE_BYTES_MAX} bytes")));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(command: &str, patience: Duration) -> String {
        let mut translator = Translator::start(command, patience).unwrap();
        translator.translate(&json!({ "seq": 7 }), "entry 7 (note/a)").unwrap_err().to_string()
    }

    #[test]
    fn one_child_answers_line_by_line() {
        let mut translator =
            Translator::start("while read -r line; do echo \"<$line>\"; done", PATIENCE).unwrap();
        for number in [1, 2] {
            let said = translator.translate(&json!({ "seq": number }), "an entry").unwrap();
            assert_eq!(said, format!("<{{\"seq\":{number}}}>"));
        }
    }

    #[test]
    fn a_child_that_ends_or_is_silent_gives_an_error_with_the_entry() {
        let ended = error_of("exit 3", PATIENCE);
        assert!(ended.contains("entry 7 (note/a)") && ended.contains("before it answered"), "{ended}");
        // It waits for its input to end, which does not.
        let silent = error_of("cat > /dev/null", Duration::from_millis(20));
        assert!(silent.contains("entry 7 (note/a)") && silent.contains("said nothing"), "{silent}");
    }

    #[test]
    fn a_line_without_an_end_is_one_and_one_that_is_too_long_is_none() {
        let mut lines = &b"one\n\ntwo"[..];
        let said: Vec<_> = std::iter::from_fn(|| next_line(&mut lines).unwrap()).collect();
        assert_eq!(said, [&b"one"[..], b"", b"two"]);
        let long = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() + 1];
        assert!(next_line(&mut &long[..]).is_err());
    }
}

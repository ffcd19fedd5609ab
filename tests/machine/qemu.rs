//! Machines that qemu emulates: one starts and is saved when its program waits for an order, and all others go on from there.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::guest::{OVER, READY};
use super::initrd::pack;
use super::order::Order;
use super::qmp::Qmp;
use crate::blocks::device::Device;
use crate::blocks::roles::SAID;

const MEMORY: &str = "256M";
/// What says nothing for so long will never say anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// A machine that waits for an order. Nothing of its disk has come into its memory.
pub(crate) struct Saved {
    inputs: PathBuf,
    disk: PathBuf,
    marks: PathBuf,
    console: UnixListener,
    directory: tempfile::TempDir,
}

impl Saved {
    /// `inputs` has the `kernel`, its `modules`, `disk.ko` and `busybox`.
    pub(crate) fn start(inputs: &Path, device: &Device) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let directory = tempfile::Builder::new().prefix("esker-machine-").tempdir().map_err(text)?;
        pack(inputs, device.file_system.name(), &directory.path().join("initrd"))?;
        let console = UnixListener::bind(directory.path().join("console")).map_err(text)?;
        let (disk, marks) = (device.file(), device.place().marks);
        let saved = Self { inputs: inputs.to_owned(), disk, marks, console, directory };
        let mut machine = saved.emulate("on", &[])?;
        machine.until_said(READY)?;
        machine.qmp.tell("stop", "{}")?;
        let state = machine.state(&saved.path("saving"))?;
        std::fs::write(saved.path("state"), state).map_err(text)?;
        Ok(saved)
    }

    /// Another that goes on from there.
    pub(crate) fn resume(&self) -> Result<Machine, String> {
        let mut machine = self.emulate("off", &["-incoming", "defer"])?;
        machine.qmp.migrate("migrate-incoming", &format!("exec:cat '{}'", self.path("state")))?;
        machine.qmp.tell("cont", "{}")?;
        Ok(machine)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Its memory is a file, which the first writes and all others change for themselves alone (`share`).
    fn emulate(&self, share: &str, more: &[&str]) -> Result<Machine, String> {
        let memory = self.path("memory");
        let mut command = Command::new("setpriv");
        // It never outlives who started it.
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-no-reboot", "-cpu", "qemu64", "-smp", "1", "-m", MEMORY]);
        command.args(["-machine", "pc,accel=tcg,memory-backend=memory", "-object"]);
        command.arg(format!("memory-backend-file,id=memory,size={MEMORY},mem-path={memory},share={share}"));
        command.arg("-kernel").arg(self.inputs.join("kernel")).args(["-initrd", &self.path("initrd")]);
        // Where others work on the host, a timer comes later than the kernel would wait for it when it starts.
        command.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check nokaslr"]);
        // Nothing is kept from the file, and what the machine asks to be flushed is.
        command.arg("-drive").arg(format!(
            "id=disk,if=none,format=raw,cache=none,aio=threads,file.locking=off,file={}",
            self.disk.display()
        ));
        command.args(["-device", "virtio-blk-pci,drive=disk,discard=off,write-zeroes=off"]);
        // Without `ioeventfd` a mark is handed over before the machine does anything else: no write overtakes it.
        command.args(["-device", "virtio-serial-pci,ioeventfd=off", "-chardev"]);
        command.arg(format!("file,id=marks,path={}", self.marks.display()));
        command.args(["-device", "virtserialport,chardev=marks", "-qmp", "stdio", "-chardev"]);
        command.arg(format!("socket,id=console,path={}", self.path("console")));
        command.args(["-serial", "chardev:console"]).args(more);
        let log = self.path("log");
        let (begun, ended) = (File::create(&log), || std::fs::read_to_string(&log).unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(begun.map_err(|e| e.to_string())?);
        let child = command.spawn().map_err(|error| format!("qemu: {error}"))?;
        Machine::of(child, &self.console).map_err(|error| format!("qemu: {error} {}", ended()))
    }
}

/// What is heard of a machine.
enum Heard {
    Line(String),
    /// The disk has no more power.
    PowerGone,
    Ended,
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    PowerGone,
    /// It has done all it was told.
    Over,
    Wrong(String),
}

/// A machine that runs. It is killed when it is dropped: whatever is in its memory alone is lost.
pub(crate) struct Machine {
    child: Killed,
    qmp: Qmp,
    console: UnixStream,
    listener: Option<JoinHandle<()>>,
    heard: Receiver<Heard>,
    teller: Sender<Heard>,
    /// All that was on its console.
    pub(crate) said: Vec<String>,
}

impl Machine {
    fn of(mut child: Child, console: &UnixListener) -> Result<Self, String> {
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let child = Killed(child);
        let qmp = Qmp::greet(input, output)?;
        // It has connected before it greeted.
        let (console, _) = console.accept().map_err(|error| error.to_string())?;
        let (teller, heard) = channel();
        let (from, to) = (console.try_clone().map_err(|error| error.to_string())?, teller.clone());
        let listener = Some(std::thread::spawn(move || listen(from, &to)));
        Ok(Self { child, qmp, console, listener, heard, teller, said: Vec::new() })
    }

    pub(crate) fn tell(&mut self, order: &Order) -> Result<(), String> {
        self.console.write_all(format!("{order}\n").as_bytes()).map_err(|error| error.to_string())
    }

    /// To be called when its disk loses its power.
    pub(crate) fn power_switch(&self) -> Box<dyn Fn() + Send> {
        let teller = self.teller.clone();
        // A machine that is no longer there does not mind.
        Box::new(move || _ = teller.send(Heard::PowerGone))
    }

    /// Waits until its power has gone, or it has done what it was told.
    pub(crate) fn until_ended(&mut self) -> Ended {
        match self.until_said(OVER) {
            Ok(true) => Ended::Over,
            Ok(false) => Ended::PowerGone,
            Err(what) => Ended::Wrong(what),
        }
    }

    /// True once it has said this, and false if the power went before.
    fn until_said(&mut self, wanted: &str) -> Result<bool, String> {
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(Heard::PowerGone) => return Ok(false),
                Ok(Heard::Line(line)) => {
                    let said = line.strip_prefix(SAID).map(str::to_owned);
                    self.said.push(line);
                    let Some(said) = said else { continue };
                    if said == wanted {
                        return Ok(true);
                    }
                    if let Some(what) = said.strip_prefix("wrong ") {
                        return Err(what.to_owned());
                    }
                }
                Ok(Heard::Ended) => return Err(format!("the machine ended: {}", self.said.join("\n"))),
                Err(_) => return Err(format!("the machine hangs: {}", self.said.join("\n"))),
            }
        }
    }

    /// What it is beside its memory; it has stopped, and will not go on. A socket of this name takes it along.
    fn state(mut self, socket: &str) -> Result<Vec<u8>, String> {
        let listener = UnixListener::bind(socket).map_err(|error| error.to_string())?;
        let reader = std::thread::spawn(move || {
            let mut state = Vec::new();
            listener.accept()?.0.read_to_end(&mut state)?;
            std::io::Result::Ok(state)
        });
        self.qmp.migrate("migrate", &format!("unix:{socket}"))?;
        // Its end is that of what is read.
        drop(self);
        reader.join().unwrap().map_err(|error| error.to_string())
    }

    /// Whether a store was judged in it.
    pub(crate) fn has_judged(&self) -> bool {
        self.said.iter().any(|line| line.starts_with(&format!("{SAID}right")))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.child.kill();
        // It ends with the machine.
        if let Some(listener) = self.listener.take() {
            _ = listener.join();
        }
    }
}

/// A process that is killed at its end.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(console: UnixStream, to: &Sender<Heard>) {
    for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
        _ = to.send(Heard::Line(String::from_utf8_lossy(&line).trim_end().to_owned()));
    }
    _ = to.send(Heard::Ended);
}

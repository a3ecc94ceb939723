//! Every console that the command line names, and the kernel's log.
//!
//! Each console has a writer thread of its own: a terminal that somebody stopped with Ctrl-S, or a serial
//! port whose far end holds it back, must not stop the work. What it cannot take is dropped.

use nix::sys::termios;
use pitstop_imaging::event::{Event, Level, Reporter};
use pitstop_imaging::render::{Renderer, Style, sentence};
use pitstop_protocol::boot_parameters::BootParameters;
use pitstop_protocol::job::with_defaults;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Begins each line.
const PREFIX: &str = "pitstop: ";

/// Lines that wait for a slow console; at 9600 baud these are 20 s.
const WAITING_LINES: usize = 256;

/// How long the end of a run waits for slow consoles to show it.
const DRAIN: Duration = Duration::from_secs(5);

/// The kernel's messages on the console: errors and worse, so that progress is not flooded.
const KERNEL_LOG_LEVEL: &str = "4";

/// The command line's boot part; an unreadable `/proc/cmdline` is an empty one.
pub fn boot_parameters() -> BootParameters {
    BootParameters::parse(&command_line())
}

/// Where mkimage puts kernel parameters for boot loaders that give none.
const DEFAULT_PARAMETERS: &str = "/etc/pitstop/params";

/// The kernel command line, with the image's own parameters where it does not set them.
pub fn command_line() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    with_defaults(&read(DEFAULT_PARAMETERS), &read("/proc/cmdline"))
}

/// All outputs of this process. Cheap to clone.
#[derive(Clone)]
pub struct Consoles {
    shared: Arc<Shared>,
}

struct Shared {
    names: Vec<String>,
    outputs: Vec<Output>,
    kernel_log: Option<Mutex<File>>,
    debug: bool,
}

struct Output {
    renderer: Mutex<Renderer>,
    /// A drawn line may stand there: it is cleared before a line of another origin.
    redrawn: bool,
    queue: SyncSender<Job>,
}

enum Job {
    Write(String),
    /// Answered when all before it is out.
    Drain(SyncSender<()>),
}

impl Consoles {
    /// Opens each `console=`, or `/dev/console` where none is named. One that is missing is tried again
    /// with each line, as USB serial ports appear late; none at all is no error.
    pub fn open(boot: &BootParameters) -> Self {
        let least = if boot.debug {
            Level::Debug
        } else {
            Level::Info
        };
        let mut names = boot.consoles.clone();
        if names.is_empty() {
            names.push("console".into());
        }
        let outputs = names
            .iter()
            .map(|name| Output::start(Path::new("/dev").join(name), is_screen(name), least))
            .collect();
        let kernel_log = OpenOptions::new()
            .write(true)
            .open("/dev/kmsg")
            .ok()
            .map(Mutex::new);
        Self {
            shared: Arc::new(Shared {
                names,
                outputs,
                kernel_log,
                debug: boot.debug,
            }),
        }
    }

    /// The devices' names under `/dev`.
    pub fn names(&self) -> &[String] {
        &self.shared.names
    }

    /// Quiets the kernel, unless the command line wants to hear it, and says who speaks here.
    pub fn greet(&self) {
        let wanted = command_line().split_whitespace().any(|word| {
            word.starts_with("loglevel=") || word == "debug" || word == "ignore_loglevel"
        });
        if !wanted && !self.shared.debug {
            self.note_failure(fs::write("/proc/sys/kernel/printk", KERNEL_LOG_LEVEL));
        }
        // The kernel's limit of ten lines in five seconds is for programs gone mad.
        self.note_failure(fs::write("/proc/sys/kernel/printk_devkmsg", "on\n"));
        self.info(format!("version {}", env!("CARGO_PKG_VERSION")));
    }

    fn note_failure(&self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            self.debug(format!("setting the kernel's log level: {error}"));
        }
    }

    /// A warning for each failure of a stage that the boot goes on without.
    pub fn report_failures(&self, outcomes: impl IntoIterator<Item = anyhow::Result<()>>) {
        for error in outcomes.into_iter().filter_map(Result::err) {
            self.warn(format!("{error:#}"));
        }
    }

    /// A line that is shown as it is, everywhere, whatever the log level: the result.
    pub fn result(&self, line: &str) {
        for output in &self.shared.outputs {
            let clear = if output.redrawn { "\r\x1b[K" } else { "" };
            output.write(format!("{clear}{line}\n"));
        }
        self.log_to_kernel(line);
        self.drain();
    }

    /// Waits until all consoles have shown what they were given, but no longer than some seconds.
    pub fn drain(&self) {
        let deadline = Instant::now() + DRAIN;
        let answers: Vec<Receiver<()>> = self
            .shared
            .outputs
            .iter()
            .filter_map(|output| {
                let (done, answer) = sync_channel(1);
                output.queue.try_send(Job::Drain(done)).ok()?;
                Some(answer)
            })
            .collect();
        for answer in answers {
            // A console that does not come to an end in time is one that nobody can read.
            let _ = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    fn log_to_kernel(&self, text: &str) {
        let Some(file) = &self.shared.kernel_log else {
            return;
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            // Priority 7: the kernel shows no line a second time on a console that had it from here. It takes
            // a record a write, and nobody is left to tell if it does not.
            let _ = file.write_all(format!("<7>{line}").as_bytes());
        }
    }
}

impl Reporter for Consoles {
    fn event(&self, event: &Event) {
        for output in &self.shared.outputs {
            let text = output
                .renderer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .render(event);
            if let Some(text) = text {
                output.write(text);
            }
        }
        if let Some((level, text)) = sentence(event)
            && (level > Level::Debug || self.shared.debug)
        {
            self.log_to_kernel(&format!("{PREFIX}{text}"));
        }
    }
}

impl Output {
    fn start(device: PathBuf, screen: bool, least: Level) -> Self {
        let (queue, jobs) = sync_channel(WAITING_LINES);
        let style = if screen {
            Style::Redrawn {
                columns: columns(&device),
            }
        } else {
            Style::Lines
        };
        thread::spawn(move || write_all(&device, &jobs));
        Self {
            renderer: Mutex::new(Renderer::new(style, PREFIX, least)),
            redrawn: screen,
            queue,
        }
    }

    fn write(&self, text: String) {
        // A full queue is a console that is held back: its lines are lost, the work is not.
        let _ = self.queue.try_send(Job::Write(text));
    }
}

fn write_all(device: &Path, jobs: &Receiver<Job>) {
    let mut file = None;
    for job in jobs {
        match job {
            Job::Write(text) => {
                if file.is_none() {
                    file = open(device);
                }
                let written = file.as_mut().map(|file| file.write_all(text.as_bytes()));
                if let Some(Err(_)) = written {
                    // Unplugged, or hung up: it may come back.
                    file = None;
                }
            }
            Job::Drain(done) => {
                // A device that is no terminal has nothing to drain.
                if let Some(file) = &file {
                    let _ = termios::tcdrain(file);
                }
                let _ = done.send(());
            }
        }
    }
}

fn open(device: &Path) -> Option<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(device)
        .ok()
}

/// Virtual terminals draw; serial lines and the rest get lines.
fn is_screen(name: &str) -> bool {
    name.strip_prefix("tty")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn columns(device: &Path) -> usize {
    const USUAL: usize = 80;
    open(device)
        .and_then(|file| rustix::termios::tcgetwinsize(&file).ok())
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns >= 20)
        .unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_terminals_are_screens_and_serial_lines_are_not() {
        assert!(is_screen("tty0"));
        assert!(is_screen("tty12"));
        for name in ["ttyS0", "ttyUSB0", "hvc0", "console", "tty"] {
            assert!(!is_screen(name), "{name}");
        }
    }

    fn output(name: &str, folder: &Path) -> (Output, PathBuf) {
        let path = folder.join(name);
        (
            Output::start(path.clone(), is_screen(name), Level::Info),
            path,
        )
    }

    fn consoles(outputs: Vec<Output>) -> Consoles {
        Consoles {
            shared: Arc::new(Shared {
                names: Vec::new(),
                outputs,
                kernel_log: None,
                debug: false,
            }),
        }
    }

    #[test]
    fn lines_go_to_all_consoles_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let (here, here_path) = output("ttyS0", folder.path());
        let (gone, _) = output("missing/ttyS1", folder.path());
        fs::write(&here_path, "").unwrap();
        let consoles = consoles(vec![gone, here]);
        consoles.info("hello".into());
        consoles.result("pitstop: result ok backup");
        assert_eq!(
            fs::read_to_string(here_path).unwrap(),
            "pitstop: hello\npitstop: result ok backup\n"
        );
    }

    #[test]
    fn a_console_that_blocks_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (blocked, pipe) = output("ttyS0", folder.path());
        // A FIFO without a reader: opening it for writing blocks, as a held-back serial port does.
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let consoles = consoles(vec![blocked]);
        let begin = Instant::now();
        for number in 0..WAITING_LINES * 4 {
            consoles.info(format!("line {number}"));
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}

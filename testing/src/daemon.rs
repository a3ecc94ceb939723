//! A server of other people's: seen at once if it dies at its start, told with what it said, ended when dropped.

use crate::running::Running;
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a start may take on a computer that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Daemon {
    child: Running,
    said: File,
}

impl Daemon {
    /// Starts it; whoever lacks the program has a test that fails.
    pub fn start(command: &mut Command) -> Self {
        Self::fed(command, Stdio::null())
    }

    /// The same with what it reads.
    pub fn fed(command: &mut Command, input: impl Into<Stdio>) -> Self {
        let said = tempfile::tempfile().unwrap();
        let child = command
            .stdin(input)
            .stdout(said.try_clone().unwrap())
            .stderr(said.try_clone().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} is needed for this test: {error}"));
        let child = Running::new(child);
        Self { child, said }
    }

    /// Starts a server, and waits until it listens on `port` of the loopback. A port of [`crate::ports::free_port`] is
    /// nobody else's, so who answers there is it.
    pub fn listening(command: &mut Command, port: u16) -> Self {
        let mut daemon = Self::start(command);
        daemon.wait_until(&format!("{command:?}"), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        daemon
    }

    pub fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) {
        let began = Instant::now();
        while !ready() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "{what} did not start ({ended:?}):\n{}",
                self.said()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        let mut bytes = vec![0; usize::try_from(self.said.metadata().unwrap().len()).unwrap()];
        // At a place: the handle's own is where the program writes.
        let read = self.said.read_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Daemon;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::Command;

    #[test]
    fn a_server_that_dies_at_its_start_is_told_at_once_with_its_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo the port is taken; exit 3"]);
        let started = catch_unwind(AssertUnwindSafe(|| {
            Daemon::start(&mut command).wait_until("it", || false);
        }));
        let told = started.unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains("the port is taken"), "{told}");
        // Who had waited for it in vain would not know how it ended.
        assert!(told.contains("did not start (Some("), "{told}");
    }
}

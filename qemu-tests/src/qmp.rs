//! QEMU's machine protocol: enough to see resets and shutdowns, press keys and plug devices.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const ANSWER_PATIENCE: Duration = Duration::from_secs(300);

/// A connection to one machine's monitor.
pub struct Qmp {
    stream: UnixStream,
    answers: Receiver<Value>,
    events: Receiver<Value>,
}

impl Qmp {
    /// Connects to the socket, which QEMU makes a moment after it starts.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Qmp> {
        let deadline = Instant::now() + patience;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error)
                        .with_context(|| format!("connecting to {}", socket.display()));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let (answer_sender, answers) = channel();
        let (event_sender, events) = channel();
        let reader = stream.try_clone()?;
        thread::Builder::new()
            .name("qmp".into())
            .spawn(move || read_messages(reader, &answer_sender, &event_sender))?;
        let mut qmp = Qmp {
            stream,
            answers,
            events,
        };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let message = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream, "{message}").with_context(|| format!("sending {command} to QEMU"))?;
        let answer = self
            .answers
            .recv_timeout(ANSWER_PATIENCE)
            .with_context(|| format!("QEMU did not answer {command}"))?;
        if let Some(error) = answer.get("error") {
            bail!("QEMU refused {command}: {error}");
        }
        Ok(answer["return"].clone())
    }

    /// Waits for an event of this name and returns its data. Other events before it are passed over.
    pub fn wait_for(&self, event: &str, patience: Duration) -> Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self
                .events
                .recv_timeout(left)
                .with_context(|| format!("QEMU told no {event} within {patience:?}"))?;
            if message["event"] == event {
                return Ok(message["data"].clone());
            }
        }
    }
}

fn read_messages(stream: UnixStream, answers: &Sender<Value>, events: &Sender<Value>) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let taken = if message.get("event").is_some() {
            events.send(message)
        } else if message.get("QMP").is_some() {
            continue;
        } else {
            answers.send(message)
        };
        if taken.is_err() {
            return;
        }
    }
}

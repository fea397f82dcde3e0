//! `fedmux` as it is typed, and `fedmux run` as a process with its log.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Run `fedmux` in `folder`, to its end.
pub(crate) fn fedmux(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedmux"));
    command.args(arguments).current_dir(folder).env_remove("FEDMUX_LOG");
    command
}

/// A relay that runs, and its log.
pub(crate) struct Running {
    pub(crate) process: Child,
    log: BufReader<Box<dyn Read>>,
}

impl Running {
    /// Run the relay of `f.toml` in `folder`; its log is JSON.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["--log-format", "json"])
    }

    /// The same with these arguments.
    pub(crate) fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["run", "--config", "f.toml"], arguments].concat();
        let mut process = command(folder, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        let log: Box<dyn Read> = Box::new(process.stderr.take().unwrap());
        Self { process, log: BufReader::new(log) }
    }

    /// The next line of the log, as it stands there; `None` at its end.
    pub(crate) fn text_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.log.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next log line whose message begins so.
    pub(crate) fn waits_for(&mut self, beginning: &str) -> serde_json::Value {
        while let Some(line) = self.text_line() {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"].as_str().is_some_and(|message| message.starts_with(beginning)) {
                return event;
            }
        }
        panic!("the log ended without: {beginning}");
    }

    /// Nobody reads its log any more: to write a line of it fails from now on.
    pub(crate) fn stops_reading(&mut self) {
        self.log = BufReader::new(Box::new(std::io::empty()));
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Running {
    /// A test that failed leaves nothing running.
    fn drop(&mut self) {
        let _gone = (self.process.kill(), self.process.wait());
    }
}

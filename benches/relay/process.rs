//! A process of the bench: told what to do a line at a time, and it answers each with a line.

use std::process::Stdio;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin, stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Failed;

/// One that was started; it ends with this.
pub(crate) struct Process {
    child: Child,
    say: ChildStdin,
    hear: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Process {
    /// Start this bench in another role, and wait for its first word.
    pub(crate) async fn start(words: &[String]) -> Result<(Self, String), Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let say = child.stdin.take().ok_or("no standard input")?;
        let hear = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut process = Self { child, say, hear, what: words.join(" ") };
        let first = process.hear().await?;
        Ok((process, first))
    }

    pub(crate) fn id(&self) -> Result<u32, Failed> {
        Ok(self.child.id().ok_or("the process has ended")?)
    }

    /// Tell it to do something, and wait for what it says to that.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, what: &str) -> Result<T, Failed> {
        self.say.write_all(format!("{what}\n").as_bytes()).await?;
        Ok(serde_json::from_str(&self.hear().await?)?)
    }

    async fn hear(&mut self) -> Result<String, Failed> {
        let line = self.hear.next_line().await?;
        Ok(line.ok_or_else(|| format!("it has ended: relay {}", self.what))?)
    }
}

/// In such a process: what it is told to do.
pub(crate) struct Orders(Lines<BufReader<Stdin>>);

impl Orders {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(stdin()).lines())
    }

    /// The next order, in words; `None`: it is over.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<String>>, Failed> {
        let line = self.0.next_line().await?;
        Ok(line.map(|line| line.split_whitespace().map(str::to_owned).collect()))
    }
}

/// In such a process: answer an order.
pub(crate) fn answer(answer: &impl Serialize) -> Result<(), Failed> {
    println!("{}", serde_json::to_string(answer)?);
    Ok(())
}

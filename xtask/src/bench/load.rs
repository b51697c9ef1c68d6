//! A load: the live tests' program in a network namespace of its own, which does what
//! it is told and ends with this process.

use crate::run;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// One of them (tracer/tests/live/load.rs has the orders).
#[derive(Debug)]
pub(super) struct Load {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// As tracer's `netns`.
    pub(super) netns: u64,
}

impl Load {
    pub(super) fn start(live: &Path) -> Result<Self> {
        let mut command = Command::new(live);
        command.args(["--role", "load"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| run::name(&command))?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut load = Self {
            orders: child.stdin.take(),
            child,
            answers,
            netns: 0,
        };
        load.netns = load.answer()?["netns"].as_u64().context("no netns")?;
        Ok(load)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its namespace, as `nsenter` wants it.
    pub(super) fn namespace(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.child.id())
    }

    /// Has it do something; its answer.
    pub(super) fn ask(&mut self, order: &str) -> Result<Value> {
        let orders = self.orders.as_mut().context("it has ended")?;
        writeln!(orders, "{order}")?;
        self.answer().with_context(|| order.to_owned())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).context("the load ended early")
    }
}

/// A number of an answer.
pub(super) fn number(answer: &Value, name: &str) -> Result<f64> {
    let number = answer[name].as_f64();
    number.with_context(|| format!("no {name} in {answer}"))
}

impl Drop for Load {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.child.wait();
    }
}

//! What connections and failures cost in each tier, for `cargo xtask bench tiers`: in a
//! machine that was booted for it, because only there every tier can be attached.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::case::Skip;
use crate::tracer::{Start, Tracer};
use crate::{bpf, say};

/// The word on the kernel's command line.
const WORD: &str = "tracer.bench";

/// Under emulation a second's worth or two.
const CONNECTIONS: &str = "connects 2000";
const FAILURES: &str = "fail 2000";

/// Says what each tier costs; it fails only if something cannot be measured.
pub(crate) fn of_tiers(path: &Path) -> Result<()> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    if !line.split_whitespace().any(|word| word == WORD) {
        return Err(Skip::because("for `cargo xtask bench tiers`"));
    }
    for tier in ["nobody", "function", "kprobe", "portable"] {
        let cost = measure(path, tier).with_context(|| tier.to_owned())?;
        say::remark(&format!("cost {cost}"));
    }
    Ok(())
}

fn measure(path: &Path, tier: &str) -> Result<Value> {
    let mut load = Load::start()?;
    load.ask("statistics")?;
    // Of its own, because connections that were closed may have the ports that it binds.
    let mut failing = Load::start()?;
    failing.ask("no-ports")?;
    let others: BTreeSet<u32> = ids()?;
    let tracer = match tier {
        "nobody" => None,
        _ => match Tracer::start(path, &["--hooks", tier])? {
            Start::Ready(tracer) => Some(tracer),
            Start::Refused(_, why) => return Ok(json!({ "tier": tier, "refused": why })),
        },
    };
    let own: Vec<u32> = ids()?.difference(&others).copied().collect();
    load.ask("connects 100")?;
    let [before, connections, between] = around(&mut load, &own, CONNECTIONS)?;
    let [_, failures, after] = around(&mut failing, &own, FAILURES)?;
    if let Some(tracer) = tracer {
        tracer.stop()?;
    }
    Ok(json!({
        "tier": tier, "connections": connections, "failures": failures,
        "before": before, "between": between, "after": after,
    }))
}

/// The programs' costs, what the load says, and the costs after it.
fn around(load: &mut Load, own: &[u32], order: &str) -> Result<[Value; 3]> {
    let before = costs(own)?;
    let told = load.ask(order)?;
    Ok([before, told, costs(own)?])
}

fn costs(own: &[u32]) -> Result<Value> {
    let mut all = serde_json::Map::new();
    for id in own {
        let cost = bpf::cost(*id)?;
        let value = json!([cost.ns, cost.runs, cost.verified]);
        all.insert(format!("{}#{id}", cost.name), value);
    }
    Ok(Value::Object(all))
}

fn ids() -> Result<BTreeSet<u32>> {
    let programs = bpf::programs().context("listing programs")?;
    Ok(programs.into_iter().map(|(id, _)| id).collect())
}

/// `--role load`, see `load.rs`; it ends with its stdin.
struct Load {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Load {
    fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["--role", "load"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().context("no answers")?;
        let mut load = Self {
            child,
            orders,
            answers: BufReader::new(answers),
        };
        load.answer()?;
        Ok(load)
    }

    fn ask(&mut self, order: &str) -> Result<Value> {
        let orders = self.orders.as_mut().context("no orders any more")?;
        writeln!(orders, "{order}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure!(read > 0, "the load has ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}
